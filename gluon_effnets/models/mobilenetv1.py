"""MobileNetV1 (Howard et al., arXiv 1704.04861, table 1): depthwise separable convolutions one after the other.

=======  =====  ============
out      units  first stride
=======  =====  ============
64       1      1
128      2      2
256      2      2
512      6      2
1024     2      2
=======  =====  ============

Stem 32; each unit is 3x3 depthwise -> BN -> ReLU -> 1x1 -> BN -> ReLU, without a shortcut. The width multiplier is for
all widths. Text and GluonCV's `mobilenet1.0` ... `mobilenet0.25`, names that are understood here too, agree.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from ..nn import ConvChain, Unit
from .blocknet import BlockNet, BlockRow, Table
from .registry import register_model

__all__ = [
    "mobilenet_v1",
    "mobilenet_v1_x0_25",
    "mobilenet_v1_x0_5",
    "mobilenet_v1_x0_75",
    "mobilenet_v1_x1_0",
]

PAPER = "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, arXiv 1704.04861"
STEM = 32


class Stage(NamedTuple):
    """A row of the table above."""

    out: int
    units: int
    stride: int


STAGES = (Stage(64, 1, 1), Stage(128, 2, 2), Stage(256, 2, 2), Stage(512, 6, 2), Stage(1024, 2, 2))


def mobilenet_v1(width: float = 1.0, act: str = "relu", **options) -> BlockNet:
    """Build a MobileNetV1 with all widths times `width`; options are those of `StagedNet`, dropout 0 if not given.

    `act` : 'relu' as in the text, or 'relu6' as in TensorFlow's own weights.
    """
    stem = in_channels = int(STEM * width)
    rows = []
    for stage in STAGES:
        out = int(stage.out * width)
        for index in range(stage.units):
            stride = stage.stride if index == 0 else 1
            units = (Unit(in_channels, 3, stride, act, depthwise=True), Unit(out, act=act))
            rows.append(BlockRow(functools.partial(ConvChain, units=units, residual=False), out, stride))
            in_channels = out
    definition = {} if act == "relu" else {"act": act}  # older files of weights do not name it
    return BlockNet(Table(stem, tuple(rows), act, definition=definition), **{"dropout": 0.0, **options})


@register_model(
    family="mobilenetv1",
    paper=PAPER,
    aliases=("mobilenet_v1", "mobilenet1_0", "mobilenet_v1_1_0"),
    representative=True,
    torch=("timm", "mobilenetv1_100", {}),
)
def mobilenet_v1_x1_0(**options) -> BlockNet:
    """MobileNetV1 1.0: 4.23 M parameters, 568.7 M MAdds (the paper says 4.2 M, 569 M)."""
    return mobilenet_v1(1.0, **options)


@register_model(family="mobilenetv1", paper=PAPER, aliases=("mobilenet0_75", "mobilenet_v1_0_75"))
def mobilenet_v1_x0_75(**options) -> BlockNet:
    """MobileNetV1 0.75: 2.59 M parameters, 325.4 M MAdds (the paper says 2.6 M, 325 M)."""
    return mobilenet_v1(0.75, **options)


@register_model(family="mobilenetv1", paper=PAPER, aliases=("mobilenet0_5", "mobilenet_v1_0_5"))
def mobilenet_v1_x0_5(**options) -> BlockNet:
    """MobileNetV1 0.5: 1.33 M parameters, 149.5 M MAdds (the paper says 1.3 M, 149 M)."""
    return mobilenet_v1(0.5, **options)


@register_model(family="mobilenetv1", paper=PAPER, aliases=("mobilenet0_25", "mobilenet_v1_0_25"), small=True)
def mobilenet_v1_x0_25(**options) -> BlockNet:
    """MobileNetV1 0.25: 0.47 M parameters, 41.0 M MAdds (the paper says 0.5 M, 41 M)."""
    return mobilenet_v1(0.25, **options)
