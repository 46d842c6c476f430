"""The networks of MobileNeXt's ablations: where depthwise convolutions and shortcuts stand, and what is between them.

Figure 4 of arXiv 2007.02269 (a, b, c), MobileNetV2 with one more depthwise convolution, and the networks that the
authors' code has beside them without a published accuracy (docs/mobilenext.md says which file is which).
"""

from __future__ import annotations

import functools
import math
from typing import Callable, Iterable, Iterator, List, Optional, Tuple

from ..nn import ConvChain, NarrowShortcuts, SqueezeUnit, Unit
from .blocknet import BlockRow, Table
from .mbnet import Row
from .mobilenetv2 import table_2
from .mobilenext import (
    PAPER,
    MobileNeXt,
    Place,
    Stage,
    at_least_a_sixth,
    make_sandglass,
    places,
    sandglass_row,
    widened,
)
from .registry import register_model

__all__ = [
    "mobilenet_v2_extra_dw",
    "mobilenext_bottleneck_se",
    "mobilenext_extra_1x1",
    "mobilenext_fig4a",
    "mobilenext_fig4b",
    "mobilenext_fig4c",
    "mobilenext_low_identity",
    "mobilenext_low_shortcut",
    "mobilenext_ratio_4",
    "mobilenext_without_first_dw",
]

RATIO_4 = (
    Stage(3, 2, 96, 1, 2),
    Stage(3, 4, 96, 1, 1),
    Stage(3, 4, 128, 2, 2),
    Stage(3, 4, 256, 3, 2),
    Stage(3, 4, 384, 4, 1),
    Stage(3, 4, 640, 2, 2),
    Stage(3, 4, 1280, 2, 1),
)


def _sandglasses(row: Callable[[Place], BlockRow], width: float = 1.0, **options) -> MobileNeXt:
    """A MobileNeXt of this width with other blocks.

    Args:
        row: From the place of each block to what stands there.
        width: Multiplier of all widths but 1280 below 1, as `mobilenext` takes it.
        options: Those of `StagedNet`.
    """
    stem, stages = widened(width)
    return _network(map(row, places(stem, stages, at_least_a_sixth)), stem, **options)


def _network(rows: Iterable[BlockRow], stem: int = 32, **options) -> MobileNeXt:
    return MobileNeXt(Table(stem, tuple(rows)), **options)


def _chain(units: Iterable[Unit], residual: bool = True) -> BlockRow:
    units = tuple(units)
    make = functools.partial(ConvChain, units=units, residual=residual)
    return BlockRow(make, units[-1].channels, math.prod(unit.stride for unit in units))


def _in_bottleneck(num_depthwise: Callable[[Place], int], **options) -> MobileNeXt:
    def units(place: Place) -> Iterator[Unit]:
        yield Unit(place.hidden)
        if place.last:
            for left in reversed(range(num_depthwise(place))):
                yield Unit(place.hidden, 3, act=None if left else "relu6", depthwise=True)
        yield Unit(place.stage.out, stride=place.stride, act="relu6")

    return _sandglasses(lambda place: _chain(units(place), place.residual), **options)


@register_model(
    family="mobilenext", paper=PAPER, reconstruction="no official code for (a): that of (b) with one depthwise less"
)
def mobilenext_fig4a(**options) -> MobileNeXt:
    """Figure 4 (a): one depthwise convolution in the bottleneck, shortcut between wide ends. 3.38 M, 240.7 M MAdds."""
    return _in_bottleneck(lambda place: 1, **options)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_fig4b(**options) -> MobileNeXt:
    """Figure 4 (b): two depthwise convolutions in the bottleneck, shortcut between wide ends. 3.40 M, 246.1 M MAdds."""
    return _in_bottleneck(lambda place: 2, **options)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_fig4c(*, width: float = 1.0, **options) -> MobileNeXt:
    """Figure 4 (c): MobileNetV2 with depthwise convolutions at the thin ends of the block. 3.46 M, 295.6 M MAdds."""

    def units(inputs: int, row: Row) -> Tuple[Unit, ...]:
        end = Unit(row.out, 3, act="relu6", depthwise=True)
        if not row.expand:
            first = Unit(inputs, 3, depthwise=True)
            return first, first._replace(stride=row.stride, act="relu6"), Unit(row.out)
        first = Unit(inputs, 3, act="relu6", depthwise=True)
        return first, Unit(row.hidden, act="relu6"), Unit(row.out, stride=row.stride), end

    return MobileNeXt(_from_table_2(units, width), **{"dropout": 0.0, **options})


@register_model(
    family="mobilenext",
    paper=PAPER,
    reconstruction="place of the convolution and activation behind it: commented lines of the official code, and ours",
)
def mobilenet_v2_extra_dw(*, extra_act: Optional[str] = "relu6", width: float = 1.0, **options) -> MobileNeXt:
    """MobileNetV2 with one more depthwise convolution before that of every block: 3.58 M parameters, 334.4 M MAdds."""

    def units(inputs: int, row: Row) -> Iterator[Unit]:
        if row.expand:
            yield Unit(row.hidden, act="relu6")
        yield Unit(row.hidden, 3, act=extra_act, depthwise=True)
        yield Unit(row.hidden, 3, row.stride, "relu6", depthwise=True)
        yield Unit(row.out)

    table = _from_table_2(units, width)._replace(definition={"extra_act": extra_act})
    return MobileNeXt(table, **options)


def _from_table_2(units: Callable, width: float) -> Table:
    arch = table_2(width)
    rows = tuple(_chain(units(inputs, row)) for inputs, row in zip(arch.inputs(), arch.rows))
    return Table(arch.stem, rows, head=arch.head)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_low_identity(**options) -> MobileNeXt:
    """Figure 4 (b) with one depthwise convolution where the stride is: 3.40 M parameters, 244.7 M MAdds."""
    return _in_bottleneck(lambda place: 2 if place.stage.ratio == 2 or place.stride == 1 else 1, **options)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_extra_1x1(**options) -> MobileNeXt:
    """MobileNeXt 1.0 with a linear 1x1 convolution in every bottleneck but the first: 3.72 M, 334.3 M MAdds."""

    def middle(place: Place) -> Tuple[Unit, ...]:
        return () if place.stage.ratio == 2 else (Unit(place.hidden),)

    return _sandglasses(lambda place: sandglass_row(place, middle=middle(place)), **options)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_bottleneck_se(**options) -> MobileNeXt:
    """MobileNeXt 1.0 with squeeze-and-excitation of every bottleneck, with BN inside: 3.91 M, 311.7 M MAdds."""
    return _sandglasses(lambda place: sandglass_row(place, middle=(SqueezeUnit(place.hidden),)), **options)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_without_first_dw(**options) -> MobileNeXt:
    """MobileNeXt 1.0 without depthwise convolutions before bottlenecks but the first: 3.46 M, 300.8 M MAdds."""
    return _sandglasses(lambda place: sandglass_row(place._replace(first=place.stage.ratio == 2)), **options)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_low_shortcut(**options) -> MobileNeXt:
    """MobileNeXt 1.0 with shortcuts between bottlenecks instead of wide maps: 3.54 M parameters, 311.3 M MAdds.

    Blocks that a shortcut joins are one block of a stage here, up to the one that changes the width.
    """
    rows: List[BlockRow] = []
    row: List[Place] = []
    width, stages = widened(1.0)
    for place in places(width, stages, at_least_a_sixth):
        joins = place.residual and place.stage.out == width
        row.append(place)
        if not joins:
            rows.append(sandglass_row(place) if len(row) == 1 else _joined(row))
            row = []
        width = place.stage.out
    return _network(rows, **options)


def _joined(row: List[Place]) -> BlockRow:
    makes = [make_sandglass(place, residual=False) for place in row]
    return BlockRow(functools.partial(NarrowShortcuts, blocks=makes), row[-1].stage.out, row[-1].stride)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_ratio_4(**options) -> MobileNeXt:
    """SandGlass with ratio 4 in 15 blocks, which the official code calls i2rnet: 3.59 M, 303.8 M MAdds.

    A block that changes the width has a quarter of its output in the bottleneck, all others of their input.
    """

    def hidden(width: int, stage: Stage) -> int:
        return (width if stage.ratio == 2 else stage.out) // stage.ratio

    return _network(map(sandglass_row, places(32, RATIO_4, hidden, lone_full=False)), **options)
