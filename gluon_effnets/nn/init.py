"""Weight initializers that MXNet does not have."""

from __future__ import annotations

import math

import mxnet as mx

__all__ = ["FanOutNormal"]


@mx.init.register
class FanOutNormal(mx.init.Initializer):
    """EfficientNet's initialization: convolutions N(0, 2 / fan_out), dense layers U(-1/sqrt(n), 1/sqrt(n)).

    fan_out of a convolution is k * k * out / groups; n is the number of outputs of the dense layer.
    Biases start at 0, BN gammas at 1 (the layers' own initializers).
    """

    def _init_weight(self, name, arr):
        out, per_group, *kernel = arr.shape
        if not kernel:
            bound = 1 / math.sqrt(out)
            arr[:] = mx.nd.random.uniform(-bound, bound, arr.shape)
            return
        # A weight does not know its group count; with one input channel per group it is depthwise.
        groups = out if per_group == 1 else 1
        fan_out = math.prod(kernel) * out / groups
        arr[:] = mx.nd.random.normal(0, math.sqrt(2 / fan_out), arr.shape)
