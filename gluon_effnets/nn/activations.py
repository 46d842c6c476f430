"""Activation functions, each in the form that costs least in MXNet's CPU graphs."""

from __future__ import annotations

from typing import Callable, Dict

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .layout import plain_layout
from .variants import training_on_cpu

__all__ = ["HardSigmoid", "HardSwish", "ReLU6", "Swish", "make_activation"]


class HardSigmoid(HybridBlock):
    """Piecewise linear sigmoid: h-sigmoid(x) = relu6(x + 3) / 6, elementwise.

    Source: MobileNetV3, arXiv 1905.02244, section 5.2.
    """

    def hybrid_forward(self, F, x):
        # One operator; the clip form of the definition takes five to eight times as long on a CPU.
        return F.hard_sigmoid(x, alpha=1 / 6, beta=0.5)


class HardSwish(HybridBlock):
    """Piecewise linear swish: h-swish(x) = x * h-sigmoid(x), elementwise.

    Source: MobileNetV3, arXiv 1905.02244, section 5.2.
    """

    def hybrid_forward(self, F, x):
        x = plain_layout(F, x)
        return x * F.hard_sigmoid(x, alpha=1 / 6, beta=0.5)


class Swish(HybridBlock):
    """Smooth ReLU: swish(x) = x * sigmoid(x), elementwise.

    Source: EfficientNet, arXiv 1905.11946.
    """

    def hybrid_forward(self, F, x):
        x = plain_layout(F, x)
        # oneDNN's sigmoid; MXNet's own operator takes many times as long.
        return x * F.Activation(x, act_type="sigmoid")


class ReLU6(HybridBlock):
    """Bounded ReLU: min(max(x, 0), 6), elementwise."""

    def hybrid_forward(self, F, x):
        if training_on_cpu():
            # `clip` takes longer by itself, forward and backward (docs/throughput.md) ...
            return F.minimum(F.Activation(x, act_type="relu"), 6)
        # ... but it alone becomes part of the convolution before it in oneDNN's graphs.
        return F.clip(x, 0, 6)


_ACTIVATIONS: Dict[str, Callable[[], HybridBlock]] = {
    "relu": lambda: nn.Activation("relu"),
    "relu6": ReLU6,
    "sigmoid": lambda: nn.Activation("sigmoid"),
    "hard_sigmoid": HardSigmoid,
    "hard_swish": HardSwish,
    "swish": Swish,
}


def make_activation(name: str) -> HybridBlock:
    """Return a new activation block.

    Args:
        name: 'relu', 'relu6', 'sigmoid', 'hard_sigmoid', 'hard_swish' or 'swish'.

    Raises:
        ValueError: For another name.

    Example:
        >>> make_activation("hard_swish")(mx.nd.array([-3, 0, 3])).asnumpy()
        array([-0.,  0.,  3.], dtype=float32)
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; choose one of {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name]()
