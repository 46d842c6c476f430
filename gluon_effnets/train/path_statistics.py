"""BN statistics of one path of a one-shot network: computed anew, and in place only while that path answers."""

from __future__ import annotations

import contextlib
from typing import Dict, Iterable, Iterator

import mxnet as mx
from mxnet.gluon import Parameter
from mxnet.gluon.block import Block

from .batch_statistics import batch_statistics

__all__ = ["path_statistics", "with_statistics"]

Statistics = Dict[Parameter, mx.nd.NDArray]


def path_statistics(net: Block, batches: Iterable[mx.nd.NDArray]) -> Statistics:
    """Return what the running statistics of a path should be, by their Parameters; nothing changes.

    Args:
        net: The path.
        batches: Images (N, C, H, W), on the device of the network.
    """
    params = net._collect_params_with_prefix()
    return {params[name]: value for name, value in batch_statistics(net, batches).items()}


@contextlib.contextmanager
def with_statistics(statistics: Statistics) -> Iterator[None]:
    """Within it these statistics are in force; behind it those from before are again."""
    before = {param: param.data().copy() for param in statistics}
    mx.nd.waitall()
    _set(statistics)
    try:
        yield
    finally:
        mx.nd.waitall()
        _set(before)


def _set(statistics: Statistics) -> None:
    for param, value in statistics.items():
        param.set_data(value)
