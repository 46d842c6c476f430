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
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

from .mbnet import Architecture, MBNet, Row, round_channels
from .registry import register_model

__all__ = ["B0", "efficientnet_b0"]

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


def unroll(stem: int, table: Tuple[StageRow, ...], se_rounding: str = "exact") -> Tuple[Row, ...]:
    """One `Row` per block: only the first of a stage has the stage's stride and input width."""
    rows, width = [], stem
    for stage in table:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            se = round_channels(width / 4, se_rounding)
            rows.append(Row(stage.kernel, width * stage.ratio, stage.out, se, "swish", stride, stage.ratio > 1))
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
    return MBNet(B0._replace(rows=unroll(B0.stem, TABLE_1, se_rounding)), **options)
