"""Initial weights that MXNet does not have."""

from __future__ import annotations

import math

import mxnet as mx

from .masked import masked_layers

__all__ = ["FanOutNormal", "initialize_like_trained"]


@mx.init.register
class FanOutNormal(mx.init.Initializer):
    """EfficientNet's initialization: convolutions N(0, 2 / fan_out), dense layers U(-1/sqrt(n), 1/sqrt(n)).

    fan_out of a convolution is k * k * out / groups; n is the number of outputs of the dense layer. Biases start at 0,
    BN gammas at 1 (the layers' own initializers).

    Source: the TensorFlow code of EfficientNet, arXiv 1905.11946.
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


def initialize_like_trained(net) -> None:
    """Give a network random weights that keep the signal's size through it, as training does.

    The speed of MXNet's h-swish depends on its values (by a fifth of MobileNetV3's latency), so that networks can be
    compared only with signals of equal size; most initializers let them fade. Layers that are pruned in training are
    pruned to the end.

    Args:
        net: A network of this package; what weights it has are lost.

    Example:
        >>> net = get_model("mobilenet_v3_small")
        >>> initialize_like_trained(net)
    """
    mx.random.seed(0)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    for layer in masked_layers(net).values():
        while not layer.finished:
            layer.drop()
