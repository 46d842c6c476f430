"""Which of several equal variants of a layer a graph gets: what trains fastest on a CPU, or what oneDNN fuses."""

from __future__ import annotations

import contextlib
import threading
from typing import Iterator

import mxnet as mx

__all__ = ["compiled_variants", "compiled_variants_active", "inference_variants", "training_on_cpu"]

_thread = threading.local()


@contextlib.contextmanager
def inference_variants(active: bool = True) -> Iterator[None]:
    """Within it networks are traced with the variants of inference, which exports and oneDNN's fused graphs have.

    An inner block with `active=False` does not turn an outer one off.
    """
    before = getattr(_thread, "inference", False)
    _thread.inference = active or before
    try:
        yield
    finally:
        _thread.inference = before


def training_on_cpu() -> bool:
    """Say whether a layer takes the variant that trains fastest on a CPU.

    So it does unless its graph is for inference, or the machine has a GPU. Both variants give the same numbers; what
    each gains is what `benchmark train` measures (docs/throughput.md).
    """
    return not getattr(_thread, "inference", False) and not mx.context.num_gpus()


@contextlib.contextmanager
def compiled_variants() -> Iterator[None]:
    """Within it networks are traced with the operators of `gluon_effnets.native`: graphs for training alone."""
    before = compiled_variants_active()
    _thread.compiled = True
    try:
        yield
    finally:
        _thread.compiled = before


def compiled_variants_active() -> bool:
    """Say whether a layer is being traced with the operators of `gluon_effnets.native`."""
    return getattr(_thread, "compiled", False)
