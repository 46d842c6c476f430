"""Steps of a network, to be timed: calls that return when everything is computed."""

from __future__ import annotations

from typing import Callable

import mxnet as mx
from mxnet import autograd
from mxnet.gluon.block import HybridBlock

__all__ = ["inference_step", "train_step"]


def inference_step(block: HybridBlock, x: mx.nd.NDArray) -> Callable[[], None]:
    """A call of one forward pass that waits for its end."""

    def step() -> None:
        block(x).wait_to_read()

    return step


def train_step(net: HybridBlock, batch: mx.nd.NDArray) -> Callable[[], None]:
    """Hybridize a network and return a call of one forward and backward pass that waits for its end."""
    net.hybridize(static_alloc=True, static_shape=True)

    def step() -> None:
        with autograd.record():
            loss = net(batch).mean()
        loss.backward()
        mx.nd.waitall()

    return step
