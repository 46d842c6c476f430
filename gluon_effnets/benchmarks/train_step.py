"""One training step of a network, to be timed."""

from __future__ import annotations

from typing import Callable

import mxnet as mx
from mxnet import autograd

__all__ = ["train_step"]


def train_step(net, batch: mx.nd.NDArray) -> Callable[[], None]:
    """Hybridize a network and return a call of one forward and backward pass that waits for its end."""
    net.hybridize(static_alloc=True, static_shape=True)

    def step():
        with autograd.record():
            loss = net(batch).mean()
        loss.backward()
        mx.nd.waitall()

    return step
