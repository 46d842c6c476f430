"""MobileNetV2 (Sandler et al., arXiv 1801.04381, table 2), in the definition of torchvision.

=====  ===  =======  ============
ratio  out  repeats  first stride
=====  ===  =======  ============
1      16   1        1
6      24   2        2
6      32   3        2
6      64   4        2
6      96   3        1
6      160  3        2
6      320  1        1
=====  ===  =======  ============

Stem 32, last 1x1 convolution 1280, ReLU6, a linear projection in every block. With a width multiplier all widths are
rounded to the nearest multiple of 8; the last one grows with it above 1.0 and stays 1280 below. timm, torchvision and
GluonCV agree on this; GluonCV's is `mobilenetv2_1.0`, a name that is understood here too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import mxnet as mx

from .mbnet import Architecture, MBNet, Row, round_channels
from .registry import register_model

__all__ = [
    "FanOutOfAllGroups",
    "MobileNetV2",
    "mobilenet_v2_x0_35",
    "mobilenet_v2_x0_5",
    "mobilenet_v2_x0_75",
    "mobilenet_v2_x1_0",
    "mobilenet_v2_x1_4",
    "table_2",
]

PAPER = "MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381"


class StageRow(NamedTuple):
    """A row of table 2."""

    ratio: int
    out: int
    repeats: int
    stride: int


TABLE_2 = (
    StageRow(1, 16, 1, 1),
    StageRow(6, 24, 2, 2),
    StageRow(6, 32, 3, 2),
    StageRow(6, 64, 4, 2),
    StageRow(6, 96, 3, 1),
    StageRow(6, 160, 3, 2),
    StageRow(6, 320, 1, 1),
)


@mx.init.register
class FanOutOfAllGroups(mx.init.Initializer):
    """Convolutions N(0, 2 / (k * k * out)), groups not counted; dense layers N(0, 0.01^2): PyTorch's MobileNetV2."""

    def _init_weight(self, name, arr):
        out, _, *kernel = arr.shape
        arr[:] = mx.nd.random.normal(0, math.sqrt(2 / (math.prod(kernel) * out)) if kernel else 0.01, arr.shape)


class MobileNetV2(MBNet):
    """MobileNetV2 of any width; `options` are those of `MBNet`."""

    def __init__(self, width: float = 1.0, **options):
        super().__init__(table_2(width), **options)

    def default_initializer(self) -> mx.init.Initializer:
        return FanOutOfAllGroups()


def table_2(width: float = 1.0) -> Architecture:
    """The table of the network with all widths times `width`, rounded to multiples of 8."""
    stem = channels = round_channels(32 * width)
    rows = []
    for stage in TABLE_2:
        for repeat in range(stage.repeats):
            out, stride = round_channels(stage.out * width), stage.stride if repeat == 0 else 1
            rows.append(Row(3, channels * stage.ratio, out, None, "relu6", stride, stage.ratio > 1))
            channels = out
    return Architecture(stem, tuple(rows), round_channels(1280 * max(1.0, width)), None, "relu6")


@register_model(
    family="mobilenetv2",
    paper=PAPER,
    aliases=("mobilenet_v2", "mobilenetv2_1_0"),
    representative=True,
    torch=("torchvision", "mobilenet_v2", {}),
)
def mobilenet_v2_x1_0(**options) -> MobileNetV2:
    """MobileNetV2 1.0: 3.50 M parameters, 300.8 M MAdds."""
    return MobileNetV2(1.0, **options)


@register_model(
    family="mobilenetv2",
    paper=PAPER,
    aliases=("mobilenetv2_0_35",),
    small=True,
    torch=("torchvision", "mobilenet_v2", {"width_mult": 0.35}),
)
def mobilenet_v2_x0_35(**options) -> MobileNetV2:
    """MobileNetV2 0.35: 1.68 M parameters, 59.3 M MAdds."""
    return MobileNetV2(0.35, **options)


@register_model(
    family="mobilenetv2",
    paper=PAPER,
    aliases=("mobilenetv2_0_5",),
    torch=("torchvision", "mobilenet_v2", {"width_mult": 0.5}),
)
def mobilenet_v2_x0_5(**options) -> MobileNetV2:
    """MobileNetV2 0.5: 1.97 M parameters, 97.1 M MAdds."""
    return MobileNetV2(0.5, **options)


@register_model(
    family="mobilenetv2",
    paper=PAPER,
    aliases=("mobilenetv2_0_75",),
    torch=("torchvision", "mobilenet_v2", {"width_mult": 0.75}),
)
def mobilenet_v2_x0_75(**options) -> MobileNetV2:
    """MobileNetV2 0.75: 2.64 M parameters, 209.1 M MAdds."""
    return MobileNetV2(0.75, **options)


@register_model(
    family="mobilenetv2",
    paper=PAPER,
    aliases=("mobilenetv2_1_4",),
    torch=("torchvision", "mobilenet_v2", {"width_mult": 1.4}),
)
def mobilenet_v2_x1_4(**options) -> MobileNetV2:
    """MobileNetV2 1.4: 6.11 M parameters, 582.2 M MAdds."""
    return MobileNetV2(1.4, **options)
