"""FeaturePyramid: maps of several strides, each with what the coarser ones know, all of one width."""

from __future__ import annotations

from typing import Sequence

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

__all__ = ["FeaturePyramid"]


class FeaturePyramid(HybridBlock):
    """Feature pyramid network: maps (N, C_i, H_i, W_i), finest first -> as many maps of one width, and coarser ones.

    Every map goes through a 1x1 convolution; the sum of all coarser ones, enlarged to its size, is added; a 3x3
    convolution ends the level. Of sides that are no multiples of each other the enlarged map is cut, which is what
    the nearest neighbor gives.

    Args:
        in_channels: Channels of the maps, finest first; the stride doubles from each to the next.
        channels: Of every level.
        extra_levels: Levels behind the last one, by 3x3 convolutions with stride 2 on the last map of the input and,
            behind ReLU, on one another, as RetinaNet has two (P6, P7).

    Raises:
        ValueError: Without a map.

    Source: Feature Pyramid Networks for Object Detection, arXiv 1612.03144; the extra levels: RetinaNet,
        arXiv 1708.02002.

    Example:
        >>> pyramid = FeaturePyramid([288, 576], channels=64)
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, extra_levels: int = 0, **kwargs):
        super().__init__(**kwargs)
        if not in_channels:
            raise ValueError("a pyramid needs at least one map")
        with self.name_scope():
            self.laterals = nn.HybridSequential()
            self.smooth = nn.HybridSequential()
            self.extra = nn.HybridSequential()
            for width in in_channels:
                self.laterals.add(nn.Conv2D(channels, 1, in_channels=width))
                self.smooth.add(nn.Conv2D(channels, 3, padding=1, in_channels=channels))
            width = in_channels[-1]
            for _ in range(extra_levels):
                self.extra.add(nn.Conv2D(channels, 3, strides=2, padding=1, in_channels=width))
                width = channels

    def hybrid_forward(self, F, *maps):
        if len(maps) != len(self.laterals):
            raise ValueError(f"{len(maps)} maps were given, but the pyramid was built for {len(self.laterals)}")
        merged, above = [], None
        for lateral, x in reversed(list(zip(self.laterals, maps))):
            y = lateral(x)
            if above is not None:
                y = y + F.slice_like(F.UpSampling(above, scale=2, sample_type="nearest"), y, axes=(2, 3))
            merged.insert(0, y)
            above = y
        levels = [smooth(y) for smooth, y in zip(self.smooth, merged)]
        x = maps[-1]
        for number, convolution in enumerate(self.extra):
            x = convolution(F.relu(x) if number else x)
            levels.append(x)
        return levels
