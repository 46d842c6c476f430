"""EfficientNet-B0 (Tan and Le, arXiv 1905.11946, table 1).

=====  =====  ===  ====  =======  ============  ====
stage  ratio  k    out   repeats  first stride  size
=====  =====  ===  ====  =======  ============  ====
1      1      3    16    1        1             112
2      6      3    24    2        2             56
3      6      5    40    2        2             28
4      6      3    80    3        2             14
5      6      5    112   3        1             14
6      6      5    192   4        2             7
7      6      3    320   1        1             7
=====  =====  ===  ====  =======  ============  ====

Stem 32, head 1x1 to 1280, swish everywhere (also inside squeeze-and-excitation, whose gate is the true sigmoid and
whose width is a quarter of the block's *input*). timm and torchvision use BN epsilon 1e-5 and symmetric padding (the
default here), the TensorFlow code and lukemelas' port 1e-3 and SAME padding: `bn_epsilon=1e-3, padding='same'`.
Drop-connect (0.2 in the TensorFlow code) is off by default: `drop_connect=0.2`.

EfficientNet-Lite (tensorflow/tpu, efficientnet/lite) is the same table without squeeze-and-excitation and with ReLU6:

=====  =====  =====  ====  =======
name   width  depth  size  dropout
=====  =====  =====  ====  =======
lite0  1.0    1.0    224   0.2
lite1  1.0    1.1    240   0.2
lite2  1.1    1.2    260   0.3
lite3  1.2    1.4    280   0.3
lite4  1.4    1.8    300   0.3
=====  =====  =====  ====  =======

Widths are rounded to the nearest multiple of 8, repeats up; stem, head, and the repeats of the first and the last
stage are the same for all.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, NamedTuple, Optional, Tuple

from .mbnet import Architecture, MBNet, Row, round_channels
from .registry import register_model

__all__ = [
    "B0",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
]

PAPER = "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv 1905.11946"


class StageRow(NamedTuple):
    """A row of table 1."""

    ratio: int
    kernel: int
    out: int
    repeats: int
    stride: int


TABLE_1 = (
    StageRow(1, 3, 16, 1, 1),
    StageRow(6, 3, 24, 2, 2),
    StageRow(6, 5, 40, 2, 2),
    StageRow(6, 3, 80, 3, 2),
    StageRow(6, 5, 112, 3, 1),
    StageRow(6, 5, 192, 4, 2),
    StageRow(6, 3, 320, 1, 1),
)


def unroll(
    stem: int, table: Iterable[StageRow], act: str = "swish", se_rounding: Optional[str] = "exact"
) -> Tuple[Row, ...]:
    """One `Row` per block: only the first of a stage has the stage's stride and input width.

    `se_rounding` : of the reduced widths of squeeze-and-excitation; None: without it.
    """
    rows, width = [], stem
    for stage in table:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            se = round_channels(width / 4, se_rounding) if se_rounding else None
            rows.append(Row(stage.kernel, width * stage.ratio, stage.out, se, act, stride, stage.ratio > 1))
            width = stage.out
    return tuple(rows)


B0 = Architecture(
    stem=32,
    rows=unroll(32, TABLE_1),
    head=1280,
    head_hidden=None,
    act="swish",
    se_act="swish",
    se_gate="sigmoid",
    se_of_input=True,
)


@register_model(
    family="efficientnet", paper=PAPER, representative=True, small=True, torch=("torchvision", "efficientnet_b0", {})
)
def efficientnet_b0(*, se_rounding: str = "exact", **options) -> MBNet:
    """EfficientNet-B0: 5.29 M parameters, 385.8 M MAdds. Options: those of `MBNet`."""
    return MBNet(B0._replace(rows=unroll(B0.stem, TABLE_1, se_rounding=se_rounding)), **options)


def _lite(width: float, depth: float, side: int, dropout: float, options: Dict[str, Any]) -> MBNet:
    """An EfficientNet-Lite, all of whose weights are TensorFlow's."""
    first, *middle, last = (stage._replace(out=round_channels(stage.out * width)) for stage in TABLE_1)
    deeper = [stage._replace(repeats=math.ceil(stage.repeats * depth)) for stage in middle]
    rows = unroll(B0.stem, [first, *deeper, last], "relu6", se_rounding=None)
    arch = Architecture(stem=B0.stem, rows=rows, head=B0.head, head_hidden=None, act="relu6")
    tensorflow = {"bn_epsilon": 1e-3, "padding": "same", "padding_side": side}
    return MBNet(arch, **{**tensorflow, "dropout": dropout, **options})


LITE = "EfficientNet-Lite (tensorflow/tpu, models/official/efficientnet/lite), after arXiv 1905.11946"


@register_model(family="efficientnet", paper=LITE, interpolation="pillow_bicubic")
def efficientnet_lite0(**options) -> MBNet:
    """EfficientNet-Lite0: 4.65 M parameters, 385.2 M MAdds. Options: those of `MBNet`."""
    return _lite(1.0, 1.0, 224, 0.2, options)


@register_model(family="efficientnet", paper=LITE, interpolation="pillow_bicubic", input_size=240)
def efficientnet_lite1(**options) -> MBNet:
    """EfficientNet-Lite1: 5.42 M parameters, 600.2 M MAdds. Options: those of `MBNet`."""
    return _lite(1.0, 1.1, 240, 0.2, options)


@register_model(family="efficientnet", paper=LITE, interpolation="pillow_bicubic", input_size=260)
def efficientnet_lite2(**options) -> MBNet:
    """EfficientNet-Lite2: 6.09 M parameters, 859.7 M MAdds. Options: those of `MBNet`."""
    return _lite(1.1, 1.2, 260, 0.3, options)


@register_model(family="efficientnet", paper=LITE, interpolation="pillow_bicubic", input_size=280)
def efficientnet_lite3(**options) -> MBNet:
    """EfficientNet-Lite3: 8.20 M parameters, 1383.3 M MAdds. Options: those of `MBNet`."""
    return _lite(1.2, 1.4, 280, 0.3, options)


@register_model(family="efficientnet", paper=LITE, interpolation="pillow_bicubic", input_size=300)
def efficientnet_lite4(**options) -> MBNet:
    """EfficientNet-Lite4: 13.01 M parameters, 2553.0 M MAdds. Options: those of `MBNet`."""
    return _lite(1.4, 1.8, 300, 0.3, options)
