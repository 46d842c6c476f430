"""Scores without training: log-synflow and NASWOT, of choices that share the weights of one random network.

Both grow with the number of blocks that are not idle, by construction: they say something only among networks of equal
cost, and parameters and multiply-adds stand beside them everywhere (docs/search.md).
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..models import get_model
from ..models.idle_paths import IdlePaths
from ..nn import ConvBN
from ..train.batch_statistics import watch_moments
from .idle import IdleSpace
from .space import Choice

__all__ = ["PROXIES", "LogSynflow", "Naswot"]


class _NoNorm(HybridBlock):
    """Stands where a BN layer would: synflow is defined without."""

    def __init__(self, in_channels: int, epsilon: float = 1e-5, momentum: float = 0.9):
        super().__init__()
        self._kwargs = {"eps": epsilon}

    def hybrid_forward(self, F, x):
        return F.identity(x)


def _paths(space: IdleSpace, seed: int, **options: Any) -> IdlePaths:
    recipe = space.whole()
    mx.random.seed(seed)
    net = get_model(recipe["model"], **{**recipe["model_options"], "dropout": 0.0, **options})
    net.initialize()
    return IdlePaths(net, ("left", "right"))


class LogSynflow:
    """A scorer: the natural logarithm of the sum of |w * dR/dw|, all weights made positive, for an image of ones.

    R is the sum of the logits; BN is left out; float64, as float32 overflows in deep networks.

    Args:
        space: Of the choices.
        image_size: Side of the image.
        seed: Of the random weights.

    Source: Tanaka et al., arXiv 2006.05467, and Abdelfattah et al., arXiv 2101.08134, for networks as a whole.
    """

    def __init__(self, space: IdleSpace, image_size: int = 64, seed: int = 0):
        self._space, self._paths = space, _paths(space, seed, norm_layer=_NoNorm)
        net = self._paths.net
        net.cast("float64")
        for param in net.collect_params().values():
            param.set_data(param.data().abs())
        self._params = list(net.collect_params().values())
        self._image = mx.nd.ones((1, net.in_channels, image_size, image_size), dtype="float64")

    def __call__(self, choice: Choice) -> Dict[str, float]:
        """The score of a choice as `log_synflow`."""
        path = self._space.path(choice)
        with autograd.record(train_mode=False):
            result = self._paths.net_of(path)(self._image).sum()
        result.backward()
        left_out = {param.name for param in self._paths.unused(path)}
        used = [param for param in self._params if param.name not in left_out]
        total = sum(float((param.data() * param.grad()).abs().sum().asscalar()) for param in used)
        return {"log_synflow": math.log(total)}


class Naswot:
    """A scorer: log |det K|, where K counts for each pair of images the activations that agree in their sign.

    An activation is on where what enters it is above 0: for ReLU that is where it is linear, for the other functions
    it is ours. BN normalizes by the batch.

    Args:
        space: Of the choices.
        image_size: Side of the images, which are noise.
        seed: Of weights and images.
        num_images: In the batch.

    Source: Mellor et al., arXiv 2006.04647.
    """

    def __init__(self, space: IdleSpace, image_size: int = 64, seed: int = 0, num_images: int = 16):
        self._space, self._paths = space, _paths(space, seed)
        shape = (num_images, self._paths.net.in_channels, image_size, image_size)
        self._images = mx.nd.array(np.random.RandomState(seed).standard_normal(shape))

    def __call__(self, choice: Choice) -> Dict[str, float]:
        """The score of a choice as `naswot`."""
        net, size = self._paths.net_of(self._space.path(choice)), len(self._images)
        kernel = np.zeros((size, size))

        def add(layer, inputs) -> None:
            codes = (inputs[0].reshape((size, -1)) > 0).asnumpy()
            kernel.__iadd__(codes @ codes.T + (1 - codes) @ (1 - codes).T)

        hooks = [layer.register_forward_pre_hook(add) for layer in _activations(net)]
        try:
            with watch_moments(net, lambda *_: None):
                net(self._images)
        finally:
            for hook in hooks:
                hook.detach()
        return {"naswot": float(np.linalg.slogdet(kernel)[1])}


def _activations(net) -> List[nn.Block]:
    units: List[ConvBN] = []
    net.apply(lambda block: units.append(block) if isinstance(block, ConvBN) else None)
    return [unit.act for unit in units if unit.act is not None]


PROXIES: Dict[str, Callable[..., Callable[[Choice], Dict[str, float]]]] = {"log_synflow": LogSynflow, "naswot": Naswot}
