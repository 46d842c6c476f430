"""MobileNeXt (Zhou et al., arXiv 2007.02269).

====  =====  ====  =======  ============
k     ratio  out   repeats  first stride
====  =====  ====  =======  ============
3     2      96    1        2
3     6      144   1        1
3     6      192   3        2
3     6      288   3        2
3     6      384   4        1
3     6      576   4        2
3     6      960   3        1
3     6      1280  1        1
====  =====  ====  =======  ============

Stem 32, global pooling, dropout, classifier; no last 1x1 convolution. The published numbers belong to the official
code, which differs from the text and is followed here (docs/mobilenext.md; `blocks='paper'` builds what the text says):

* where the width changes there is no first depthwise convolution, and without a stride no second one either;
* except in a stage of a single block with stride 1 (144, 1280): both, but no shortcut;
* a bottleneck narrower than a sixth of the output becomes a sixth, to the nearest multiple of 16;
* the last stage keeps its 1280 channels below width 1; 960 is repeated 3 times (2 in the text, an error).

`identity_divisor` d adds only the first C // d channels of an identity. No parameter shows it.

`mobilenext_s` and `mobilenext_l` are the rows with squeeze-and-excitation and swish. Their definition has BN epsilon
1e-3 and SAME padding: `bn_epsilon=1e-3, padding='same'`, as `load_official` sets them.
"""

from __future__ import annotations

import functools
import math
from typing import Callable, Iterable, Iterator, NamedTuple, Tuple

import mxnet as mx
from mxnet.gluon.block import HybridBlock

from ..nn import ConvChain, FanOutNormal, MBBlock, SandGlass
from .blocknet import BlockNet, BlockRow, Table
from .mbnet import Architecture, Row, round_channels
from .mobilenetv2 import FanOutOfAllGroups
from .registry import register_model

__all__ = [
    "MobileNeXt",
    "mobilenext",
    "mobilenext_l",
    "mobilenext_s",
    "mobilenext_se",
    "mobilenext_x0_35",
    "mobilenext_x0_5",
    "mobilenext_x0_75",
    "mobilenext_x1_0",
    "mobilenext_x1_4",
    "with_sandglass",
]

PAPER = "Rethinking Bottleneck Structure for Efficient Mobile Network Design, arXiv 2007.02269"
DEFINITIONS = ("official", "paper")


class Stage(NamedTuple):
    """A row of the table above."""

    kernel: int
    ratio: int
    out: int
    repeats: int
    stride: int


STAGES = (
    Stage(3, 2, 96, 1, 2),
    Stage(3, 6, 144, 1, 1),
    Stage(3, 6, 192, 3, 2),
    Stage(3, 6, 288, 3, 2),
    Stage(3, 6, 384, 4, 1),
    Stage(3, 6, 576, 4, 2),
    Stage(3, 6, 960, 3, 1),
    Stage(3, 6, 1280, 1, 1),
)
# The stride stands one stage later, and some kernels are 5 x 5.
SE_STAGES = (
    Stage(3, 2, 96, 1, 1),
    Stage(3, 6, 144, 1, 2),
    Stage(5, 6, 192, 3, 2),
    Stage(3, 6, 288, 3, 2),
    Stage(5, 6, 384, 4, 1),
    Stage(5, 6, 576, 4, 2),
    Stage(3, 6, 960, 3, 1),
    Stage(3, 6, 1280, 1, 1),
)


class MobileNeXt(BlockNet):
    """The network of a `Table` with the blocks of this file; options are those of `StagedNet`."""

    def set_identity_divisor(self, divisor: int) -> None:
        """Change the divisor of a MobileNeXt, to run weights with another one than they were trained with.

        `load_parameters` refuses such weights: load them first. Raises ValueError for a network without divisor.
        """
        if "identity_divisor" not in self.table.definition:
            raise ValueError("this network has no identity divisor")

        def change(block):
            if isinstance(block, ConvChain):
                block.set_identity_divisor(divisor)
            if isinstance(block, HybridBlock):
                block._clear_cached_op()

        self.apply(change)
        self.table = self.table._replace(definition={**self.table.definition, "identity_divisor": divisor})

    def default_initializer(self) -> mx.init.Initializer:
        """That of the official code: EfficientNet's for swish networks, else MobileNetV2's."""
        return FanOutNormal() if self.table.act == "swish" else FanOutOfAllGroups()


class Place(NamedTuple):
    """Where a block stands: what the rules of the official code decide before a block is chosen."""

    hidden: int
    stage: Stage
    stride: int
    first: bool  # depthwise convolution before the bottleneck
    last: bool  # and behind it
    residual: bool


def places(stem: int, stages: Iterable[Stage], hidden: Callable, official=True, lone_full=True) -> Iterator[Place]:
    """Yield where the blocks of all stages stand; `hidden` is called with a block's input width and its stage."""
    width = stem
    for stage in stages:
        lone = official and lone_full and stage.repeats == 1 and stage.stride == 1
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            bare = official and stage.ratio != 2 and width != stage.out and not lone
            residual = not (official and (stage.ratio == 2 or lone))
            yield Place(hidden(width, stage), stage, stride, not bare, not bare or stride == 2, residual)
            width = stage.out


def make_sandglass(place: Place, **options) -> Callable[..., SandGlass]:
    """Return what makes the block at a place of its input's channels; `options` are further ones of `SandGlass`."""
    return functools.partial(
        SandGlass,
        hidden=place.hidden,
        channels=place.stage.out,
        kernel=place.stage.kernel,
        stride=place.stride,
        first_depthwise=place.first,
        last_depthwise=place.last,
        **{"residual": place.residual, **options},
    )


def sandglass_row(place: Place, **options) -> BlockRow:
    """The block at a place as a row of a table; `options` are further ones of `SandGlass`."""
    return BlockRow(make_sandglass(place, **options), place.stage.out, place.stride)


def at_least_a_sixth(width: int, stage: Stage) -> int:
    """The official width of a bottleneck between `width` channels and those of the stage."""
    hidden = width // stage.ratio
    # Nearest multiple of 16: twice that of 8 of the half.
    return 2 * round_channels(math.ceil(stage.out / 6) / 2) if hidden < stage.out / 6 else hidden


def widened(width: float) -> Tuple[int, Tuple[Stage, ...]]:
    """Stem and stages with all widths times `width`."""
    stages = [stage._replace(out=round_channels(stage.out * width)) for stage in STAGES]
    stages[-1] = stages[-1]._replace(out=round_channels(STAGES[-1].out * max(1.0, width)))
    return round_channels(32 * width), tuple(stages)


def mobilenext(
    width: float = 1.0, *, identity_divisor: int = 1, shortcut: str = "slice", blocks: str = "official", **options
) -> MobileNeXt:
    """Build a MobileNeXt of any width.

    Args:
        width: Multiplier of all widths but 1280 below 1.
        identity_divisor: 1, 2, 3, 4 or 6 in paper and code; the identity tensor multiplier is its inverse.
        shortcut: See `gluon_effnets.nn.ConvChain`.
        blocks: 'official', or 'paper' for the text taken literally: every block whole, a shortcut where the shapes
            agree, hidden width input // ratio. No official checkpoint fits that.
        options: Those of `StagedNet`.

    Raises ValueError for another value of `blocks`, or a divisor or shortcut that `ConvChain` refuses.
    """
    if blocks not in DEFINITIONS:
        raise ValueError(f"blocks is {blocks!r}; choose one of {', '.join(DEFINITIONS)}")
    stem, stages = widened(width)
    hidden = at_least_a_sixth if blocks == "official" else lambda width, stage: width // stage.ratio
    identity = {"identity_divisor": identity_divisor}
    found = places(stem, stages, hidden, official=blocks == "official")
    rows = tuple(sandglass_row(place, shortcut=shortcut, **identity) for place in found)
    return MobileNeXt(Table(stem, rows, definition=identity), **options)


def mobilenext_se(
    depth: float = 1.0, groups: int = 1, *, identity_divisor: int = 1, shortcut: str = "slice", **options
) -> MobileNeXt:
    """Build a MobileNeXt with SE and swish: repeats times `depth`, rounded up.

    `groups`: of the 1x1 convolutions of whole blocks. The other arguments are those of `mobilenext`.
    """

    def hidden(width, stage):
        return round_channels(4 * (width // stage.ratio)) // 4  # even

    def row(place: Place) -> BlockRow:
        return sandglass_row(
            place,
            act="swish",
            se=max(1, int(place.stage.out / place.stage.ratio * 0.25)),
            groups=groups if place.first else 1,
            shortcut=shortcut,
            **identity,
        )

    identity = {"identity_divisor": identity_divisor}
    stages = [stage._replace(repeats=math.ceil(stage.repeats * depth)) for stage in SE_STAGES]
    rows = tuple(row(place) for place in places(32, stages, hidden, lone_full=False))
    return MobileNeXt(Table(32, rows, "swish", None, "sigmoid", definition=identity), **options)


def with_sandglass(arch: Architecture, numbers: Iterable[int], ratio: int = 6) -> Table:
    """Exchange blocks of an inverted-residual network (`LARGE`, `B0`, ...) for SandGlass blocks.

    `numbers` of the blocks, from 1. Each keeps kernel, stride, activation, SE and output width; its bottleneck has a
    `ratio`-th of its input's channels, to the nearest multiple of 8. `MobileNeXt(with_sandglass(...))` is the network.

    Raises ValueError for a number that is no block, or for a table with IdleBlocks.
    """
    chosen = set(numbers)
    unknown = chosen - set(range(1, len(arch.rows) + 1))
    if unknown or any(row.idle for row in arch.rows):
        raise ValueError(f"cannot exchange {sorted(unknown) or 'IdleBlocks'}: blocks are 1 to {len(arch.rows)}")

    def make(number: int, width: int, row: Row) -> BlockRow:
        block: Callable = functools.partial(MBBlock, hidden=row.hidden, expand=row.expand)
        if number in chosen:
            block = functools.partial(SandGlass, hidden=round_channels(width / ratio))
        common = {"channels": row.out, "kernel": row.kernel, "stride": row.stride, "act": row.act, "se": row.se}
        return BlockRow(functools.partial(block, **common), row.out, row.stride)

    rows = tuple(make(*item) for item in zip(range(1, len(arch.rows) + 1), arch.inputs(), arch.rows))
    return Table(arch.stem, rows, arch.act, arch.se_act, arch.se_gate, arch.head, arch.head_hidden)


@register_model(family="mobilenext", paper=PAPER, aliases=("mobilenext", "mobilenext_1_0"), representative=True)
def mobilenext_x1_0(**options) -> MobileNeXt:
    """MobileNeXt 1.0: 3.54 M parameters, 311.3 M MAdds (the paper says 3.4 M, 300 M). Options: see `mobilenext`."""
    return mobilenext(1.0, **options)


@register_model(family="mobilenext", paper=PAPER, aliases=("mobilenext_0_35",), small=True)
def mobilenext_x0_35(**options) -> MobileNeXt:
    """MobileNeXt 0.35: 1.91 M parameters, 75.1 M MAdds (the authors say 1.8 M, 80 M)."""
    return mobilenext(0.35, **options)


@register_model(family="mobilenext", paper=PAPER, aliases=("mobilenext_0_5",))
def mobilenext_x0_5(**options) -> MobileNeXt:
    """MobileNeXt 0.5: 2.15 M parameters, 103.3 M MAdds (the paper says 1.8 M, 110 M)."""
    return mobilenext(0.5, **options)


@register_model(family="mobilenext", paper=PAPER, aliases=("mobilenext_0_75",))
def mobilenext_x0_75(**options) -> MobileNeXt:
    """MobileNeXt 0.75: 2.77 M parameters, 207.9 M MAdds (the paper says 2.5 M, 210 M)."""
    return mobilenext(0.75, **options)


@register_model(family="mobilenext", paper=PAPER, aliases=("mobilenext_1_4",))
def mobilenext_x1_4(**options) -> MobileNeXt:
    """MobileNeXt 1.4: 6.13 M parameters, 588.3 M MAdds (the paper says 6.1 M, 590 M)."""
    return mobilenext(1.4, **options)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_s(**options) -> MobileNeXt:
    """MobileNeXt-1.0 with SE and swish: 3.93 M parameters, 330.2 M MAdds (the paper says 3.94 M, 330 M)."""
    return mobilenext_se(1.0, 1, **options)


@register_model(family="mobilenext", paper=PAPER)
def mobilenext_l(**options) -> MobileNeXt:
    """MobileNeXt-1.1, SE, swish, grouped 1x1: 4.28 M parameters, 415.1 M MAdds (the paper says 4.28 M, 420 M)."""
    return mobilenext_se(1.1, 2, **options)
