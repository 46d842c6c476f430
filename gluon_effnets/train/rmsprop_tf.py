"""RMSProp as TensorFlow 1 defines it, `rmsprop_tf`: MobileNetV3, EfficientNet and MobileNeXt-S and -L have it."""

from __future__ import annotations

import math
from typing import Any, Optional, Tuple

import mxnet as mx

__all__ = ["RMSPropTF"]

State = Tuple[mx.nd.NDArray, Optional[mx.nd.NDArray]]


class RMSPropTF(mx.optimizer.Optimizer):
    """Steps scaled by the root of a running mean of squared gradients, with TensorFlow's places for epsilon and rate.

    With the gradient g (rescaled, clipped, weight decay added):

        mean_square = decay * mean_square + (1 - decay) * g^2          at first 1
        mom = momentum * mom + lr * g / sqrt(mean_square + epsilon)    at first 0
        weight = weight - mom

    MXNet's `rmsprop` and PyTorch's begin with a mean square of 0, whose first steps are several times as long, and
    PyTorch adds epsilon outside the root and takes the momentum before the rate: with a rate that changes, and the
    epsilon of 0.001 of these recipes, they are other methods. float16 weights have float32 masters and states with
    `multi_precision=True`; nothing waits for the device. Gradients must be dense.

    Args:
        decay: Of the mean square, per update; at least 0 and below 1.
        momentum: At least 0 and below 1.
        epsilon: Above 0; TensorFlow's default is 1e-10, the recipes have 0.001.
        kwargs: Of every optimizer of MXNet: learning_rate, wd, rescale_grad, clip_gradient, multi_precision.

    Raises:
        ValueError: An option is out of range.

    Source:
        tensorflow/python/training/rmsprop.py (`tf.compat.v1.train.RMSPropOptimizer`, not centered): its doc-string has
        the formula, `_create_slots` the ones.
    """

    def __init__(self, decay: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-10, **kwargs: Any):
        super().__init__(**kwargs)
        for name, value, valid, rule in (
            ("decay", decay, 0 <= decay < 1, "at least 0 and below 1"),
            ("momentum", momentum, 0 <= momentum < 1, "at least 0 and below 1"),
            ("epsilon", epsilon, 0 < epsilon < math.inf, "above 0"),
        ):
            if not valid:
                raise ValueError(f"{name} of rmsprop_tf is {value}; it must be {rule}")
        self.decay, self.momentum, self.epsilon = decay, momentum, epsilon

    def create_state(self, index: int, weight: mx.nd.NDArray) -> State:
        """The mean square, and what `mom` is, with the sign of a step; None without momentum."""
        return mx.nd.ones_like(weight), mx.nd.zeros_like(weight) if self.momentum else None

    def update(self, index: int, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: State) -> None:
        """Change a weight, and its state, by one update."""
        self._update_count(index)
        mean_square, step = state
        grad = grad * self.rescale_grad
        if self.clip_gradient:
            mx.nd.clip(grad, -self.clip_gradient, self.clip_gradient, out=grad)
        wd = self._get_wd(index)
        if wd:
            grad += wd * weight
        # MXNet's kernel is the formula but for the momentum: out = in - lr * g / sqrt(mean_square + epsilon).
        kernel = {"lr": self._get_lr(index), "gamma1": self.decay, "epsilon": self.epsilon}
        if step is None:
            mx.nd.rmsprop_update(weight, grad, mean_square, out=weight, **kernel)
            return
        step *= self.momentum
        mx.nd.rmsprop_update(step, grad, mean_square, out=step, **kernel)
        weight += step
