"""NormalizedNet: what all networks with normalization layers and a strided stem are built with."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from mxnet.gluon import nn

from ..files.text import shortened
from ..nn import Norm
from .base import ClassificationNet

__all__ = ["NormalizedNet"]


class NormalizedNet(ClassificationNet):
    """A `ClassificationNet` whose normalization layers are all made by one `Norm`, and whose stem has a stride.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        stem_stride: 2, or 1 for images of about 32 pixels.
        bn_epsilon: Of every normalization layer.
        bn_momentum: Share of a running value that is kept in a training step.
        norm_layer: Class of the layers, as in GluonCV.
        norm_kwargs: Further arguments of the layers.
    """

    def __init__(
        self,
        classes: int = 1000,
        in_channels: int = 3,
        *,
        stem_stride: int = 2,
        bn_epsilon: float = 1e-5,
        bn_momentum: float = 0.9,
        norm_layer: Any = nn.BatchNorm,
        norm_kwargs: Optional[Mapping[str, Any]] = None,
        **kwargs: Any,
    ):
        super().__init__(classes, in_channels, **kwargs)
        if not isinstance(stem_stride, int) or stem_stride < 1:
            raise ValueError(f"stem_stride is {shortened(stem_stride)}; it must be a whole number, at least 1")
        self.stem_stride = stem_stride
        self.norm = Norm(bn_epsilon, bn_momentum, norm_layer, norm_kwargs or {})

    def definition(self) -> Dict[str, Any]:
        own = {"in_channels": self.in_channels, "stem_stride": self.stem_stride, "bn_epsilon": self.norm.epsilon}
        return {**super().definition(), **own}
