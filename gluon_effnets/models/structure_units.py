"""The structure units that ShuffleNetV1 is compared with at equal cost (arXiv 1707.01083, section 4.2, table 4).

Stem, max pooling and stages of 4, 8 and 4 units are those of ShuffleNetV1; the units are others, as wide as the budget
allows. The paper says: VGG-like, two 3x3 convolutions; ResNet, a bottleneck of a quarter; ResNeXt, cardinality 16 and a
bottleneck of a half; at 38 MFLOPs 50, 192 and 192 channels in stage 4. All else is ours, chosen to meet the 38 MFLOPs:

* widths double from stage to stage, and halve from 140 to 38 and from 38 to 13 MFLOPs; the stem is 24, 12 and 12 wide.
  The paper has no VGG-like network for 38 or 13 MFLOPs but that width of 50;
* a unit with a stride has a 1x1 convolution as its shortcut; the stride is that of the 3x3 convolution in ResNet, that
  of the first 1x1 convolution in ResNeXt;
* ResNeXt's bottlenecks of 12 and 24 channels cannot have 16 groups: they have 4 and 8.

The Xception-like networks of that table are ShuffleNetV1 with one group: `shufflenet_v1_g1_x1_0`, `_x0_5`, `_x0_25`.
"""

from __future__ import annotations

import functools
import math
from typing import Callable, Dict, Tuple

import mxnet as mx

from ..nn import ConvChain, ResidualUnit, Unit
from .blocknet import BlockNet, BlockRow, Table
from .registry import register_model
from .shufflenetv1 import PAPER, UNITS, InputsNormal, Widths, max_pool_row

__all__ = ["EqualCostNet", "equal_cost_net"]

CARDINALITY = 16
REPRESENTATIVE, SMALL = "resnext_like_140m", "resnext_like_13m"


def _vgg_like(channels: int, stride: int) -> Callable:
    units = (Unit(channels, 3, stride, "relu"), Unit(channels, 3, act="relu"))
    return functools.partial(ConvChain, units=units, residual=False)


def _resnet_like(channels: int, stride: int) -> Callable:
    hidden = channels // 4
    units = (Unit(hidden, act="relu"), Unit(hidden, 3, stride, "relu"), Unit(channels))
    return functools.partial(ResidualUnit, units=units)


def _resnext_like(channels: int, stride: int) -> Callable:
    hidden = channels // 2
    groups = math.gcd(CARDINALITY, hidden)
    units = (Unit(hidden, 1, stride, "relu"), Unit(hidden, 3, act="relu", groups=groups), Unit(channels))
    return functools.partial(ResidualUnit, units=units)


UNIT_OF: Dict[str, Callable[[int, int], Callable]] = {
    "vgg_like": _vgg_like,
    "resnet_like": _resnet_like,
    "resnext_like": _resnext_like,
}
LABEL_OF = {"vgg_like": "VGG-like", "resnet_like": "ResNet", "resnext_like": "ResNeXt"}
WIDTHS: Dict[Tuple[str, int], Widths] = {
    ("vgg_like", 140): Widths(24, (25, 50, 100)),
    ("vgg_like", 38): Widths(12, (12, 25, 50)),
    ("vgg_like", 13): Widths(12, (6, 12, 24)),
    ("resnet_like", 140): Widths(24, (96, 192, 384)),
    ("resnet_like", 38): Widths(12, (48, 96, 192)),
    ("resnet_like", 13): Widths(12, (24, 48, 96)),
    ("resnext_like", 140): Widths(24, (96, 192, 384)),
    ("resnext_like", 38): Widths(12, (48, 96, 192)),
    ("resnext_like", 13): Widths(12, (24, 48, 96)),
}


class EqualCostNet(BlockNet):
    """Other units in ShuffleNetV1's frame, trained as that is: its initializer, dropout and classifier."""

    def __init__(self, table: Table, *args, dropout: float = 0.0, classifier_bias: bool = False, **options):
        super().__init__(table, *args, dropout=dropout, classifier_bias=classifier_bias, **options)

    def default_initializer(self) -> mx.init.Initializer:
        return InputsNormal(self.stages[0][0].conv.weight.shape)


def equal_cost_net(unit: str, widths: Widths, *, stem_pool: bool = True, **options) -> EqualCostNet:
    """Build ShuffleNetV1's frame with other units.

    `unit` is a key of `UNIT_OF`; `stem_pool` as in `shufflenet_v1`; the other options are those of `StagedNet`.

    Raises ValueError for another unit.
    """
    if unit not in UNIT_OF:
        raise ValueError(f"unit is {unit!r}; choose one of {', '.join(UNIT_OF)}")
    rows = [max_pool_row(widths.stem)] if stem_pool else []
    for width, number in zip(widths.stages, UNITS):
        strides = (2 if index == 0 else 1 for index in range(number))
        rows += [BlockRow(UNIT_OF[unit](width, stride), width, stride) for stride in strides]
    return EqualCostNet(Table(widths.stem, tuple(rows), "relu", definition={"stem_pool": stem_pool}), **options)


def _register(unit: str, budget: int, widths: Widths) -> None:
    def build(**options) -> EqualCostNet:
        return equal_cost_net(unit, widths, **options)

    build.__name__ = build.__qualname__ = name = f"{unit}_{budget}m"
    build.__doc__ = f"{LABEL_OF[unit]} units in ShuffleNetV1's frame, for {budget} MFLOPs (table 4)."
    given = "only the width of stage 4; the others" if budget == 38 else "no width; these"
    details = "" if unit == "vgg_like" else ", the shortcuts and the place of the strides"
    scaled = {140: ", and doubled", 38: "", 13: ", and halved"}[budget]
    ours = f"the paper gives {given}{details} are fitted to its 38 MFLOPs{scaled}"
    globals()[name] = register_model(
        family="structure_units",
        paper=PAPER,
        reconstruction=ours,
        representative=name == REPRESENTATIVE,
        small=name == SMALL,
    )(build)
    __all__.append(name)


for (_unit, _budget), _widths in WIDTHS.items():
    _register(_unit, _budget, _widths)
