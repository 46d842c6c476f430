"""Hybrid composition with IdleBlocks (Xu et al., arXiv 1911.08609) on MobileNetV3 and EfficientNet-B0.

A stage may mix MBBlocks and IdleBlocks of equal width. An IdleBlock can stand only where the stride is 1 and the width
does not change; the MBBlock that follows mixes idle and active channels with its first 1x1 convolution, so no shuffle
is needed. Compositions of n replaceable blocks:

* ``none``: the baseline, the upper bound of the cost;
* ``maximum``: an IdleBlock wherever one can stand, the lower bound;
* ``adjacent``: MBBlocks are swapped one after the other until the network fits a budget of multiply-adds;
* an explicit placement: ``{block: number of IdleBlocks that take its place}``; a side, 'left' or 'right', in place of
  a number is one IdleBlock of that side.

There is no official code, and the paper's result tables could not be obtained as text. Known are: half of the channels
idle; one MBBlock costs about two IdleBlocks, so swapping one for two keeps the cost and makes the network about 30 %
deeper; -23 % multiply-adds on MobileNetV3; and HC(M=15, I=20) with 380 M multiply-adds. The width of the hidden layer
(kept, not halved) follows from these numbers. Which blocks the paper replaced does not: every placement below is a
**reconstruction**. docs/idleblock.md compares the readings.
"""

from __future__ import annotations

from typing import List, Mapping, Optional, Tuple, Union

from .efficientnet import B0
from .mbnet import Architecture, MBNet, Row, table_madds
from .mobilenetv3 import LARGE, SMALL, scale
from .registry import register_model

__all__ = [
    "compose",
    "idle_efficientnet_b0",
    "idle_efficientnet_b0_maximum",
    "idle_mbv3",
    "idle_mbv3_m15_i20",
    "idle_mbv3_maximum",
    "idle_mbv3_small",
    "idle_mbv3_small_m11_i15",
    "idle_mbv3_small_maximum",
    "idle_net",
    "replaceable",
]

PAPER = "Hybrid Composition with IdleBlock: More Efficient Networks for Image Recognition, arXiv 1911.08609"
ORDERS = ("left", "right", "alternate")
BASELINES = {"mobilenet_v3_large": LARGE, "mobilenet_v3_small": SMALL, "efficientnet_b0": B0}

Placement = Mapping[int, Union[int, str]]


def replaceable(arch: Architecture, bare: bool = False) -> List[int]:
    """Numbers (from 1) of the blocks that IdleBlocks can replace: stride 1 and equal widths.

    Blocks without an expansion convolution (block 1 of MobileNetV3-Large) count only with `bare`.
    """
    return [
        number
        for number, (width, row) in enumerate(zip(arch.inputs(), arch.rows), 1)
        if row.stride == 1 and row.out == width and (row.expand or bare)
    ]


def compose(
    arch: Architecture,
    composition: Union[str, Placement] = "none",
    *,
    append: Optional[Mapping[int, int]] = None,
    idle_per_swap: int = 1,
    budget: Optional[float] = None,
    order: str = "left",
    idle_fraction: float = 0.5,
    idle_se: str = "active",
    idle_residual: bool = True,
    shuffle: bool = False,
) -> Architecture:
    """Return `arch` with MBBlocks exchanged for IdleBlocks.

    Args:
        composition: 'none', 'maximum', 'adjacent', or {block number from 1: number of IdleBlocks in its place}; in
            place of a number, 'left' or 'right' is one IdleBlock with its active channels on that side.
        append: {block number: number of IdleBlocks inserted behind it}, in addition; they copy that block's row.
        idle_per_swap: IdleBlocks for each MBBlock in 'maximum' and 'adjacent' (2: about equal cost, deeper).
        budget: Multiply-adds at 224 x 224 and 1000 classes that 'adjacent' must reach. It swaps from the input towards
            the output (the paper does not say in which order) and stops at the first fit.
        order: 'left', 'right' or 'alternate' (left, right, left, ... within each run of IdleBlocks).
        idle_fraction: Share of idle channels, 0.5 in the paper.
        idle_se: Where SE reduces a block's input width (EfficientNet): a quarter of the 'active' or of the 'full'
            width.
        idle_residual: Shortcut on the active branch (not decided by any text we could reach).
        shuffle: Shuffle channels behind every IdleBlock (ablation).

    Raises ValueError for an unknown choice, a block that cannot be replaced, or a budget out of reach.
    """
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}; choose one of {', '.join(ORDERS)}")
    if idle_se not in ("active", "full"):
        raise ValueError(f"idle_se is {idle_se!r}; choose 'active' or 'full'")
    arch = arch._replace(idle_fraction=idle_fraction, idle_residual=idle_residual, shuffle=shuffle)
    append = {int(block): count for block, count in (append or {}).items()}

    def build(swaps: Placement) -> Architecture:
        return arch._replace(rows=_place(arch, swaps, append, order, idle_se))

    if composition == "none":
        return build({})
    if composition == "maximum":
        return build(dict.fromkeys(replaceable(arch), idle_per_swap))
    if composition == "adjacent":
        return _adjacent(arch, build, idle_per_swap, budget)
    if isinstance(composition, Mapping):
        return build({int(block): count if count in ORDERS[:2] else int(count) for block, count in composition.items()})
    raise ValueError(f"composition is {composition!r}; choose none, maximum, adjacent or a mapping {{block: count}}")


def _adjacent(arch: Architecture, build, idle_per_swap: int, budget: Optional[float]) -> Architecture:
    if budget is None:
        raise ValueError("composition='adjacent' needs budget=..., the multiply-adds to reach (for example 190e6)")
    swaps: dict = {}
    net = build(swaps)
    for number in replaceable(arch):
        if table_madds(net) <= budget:
            break
        swaps[number] = idle_per_swap
        net = build(swaps)
    if table_madds(net) > budget:
        raise ValueError(
            f"budget {budget / 1e6:.1f} M is out of reach: with all {len(swaps)} blocks swapped the network "
            f"has {table_madds(net) / 1e6:.1f} M multiply-adds"
        )
    return net


def _place(
    arch: Architecture, placed: Placement, append: Mapping[int, int], order: str, idle_se: str
) -> Tuple[Row, ...]:
    side_of = {number: side for number, side in placed.items() if isinstance(side, str)}
    swaps = {number: 1 if isinstance(count, str) else count for number, count in placed.items()}
    allowed = replaceable(arch, bare=True)
    ends = [number for number, row in enumerate(arch.rows, 1)]
    wrong = sorted((set(swaps) - set(allowed)) | (set(append) - set(ends)))
    if wrong or any(count < 1 for count in (*swaps.values(), *append.values())):
        raise ValueError(
            f"cannot place IdleBlocks at {wrong or 'a count below 1'}: replaceable blocks are {allowed}, "
            f"and IdleBlocks can be appended behind blocks 1 to {len(arch.rows)}"
        )
    rows: List[Row] = []
    position = 0  # within the current run of IdleBlocks
    for number, row in enumerate(arch.rows, 1):
        copies = swaps.get(number, 0)
        if not copies:
            rows.append(row)
            position = 0
        for _ in range(copies + append.get(number, 0)):
            side = side_of.get(number) or (ORDERS[position % 2] if order == "alternate" else order)
            rows.append(_idle_row(arch, row, side, idle_se, replaces=copies > 0))
            position += 1
    return tuple(rows)


def _idle_row(arch: Architecture, row: Row, side: str, idle_se: str, replaces: bool) -> Row:
    """The IdleBlock that stands for `row`: same hidden width, kernel, activation and SE."""
    se = row.se
    if se and arch.se_of_input:
        width = row.out if idle_se == "full" else row.out - int(row.out * arch.idle_fraction)
        se = max(1, width // 4)
    # An appended block always expands; one that replaces a block without expansion has none either.
    return row._replace(se=se, stride=1, idle=side, expand=row.expand or not replaces)


_COMPOSITION_OPTIONS = tuple(compose.__kwdefaults__)
_SCALING = ("multiplier", "se_rounding", "head_hidden", "reduced_tail")


def idle_net(baseline: str, composition: Union[str, Placement] = "none", **options) -> MBNet:
    """Hybrid composition of `baseline` ('mobilenet_v3_large', 'mobilenet_v3_small' or 'efficientnet_b0').

    `options`: those of `compose` (append, idle_per_swap, budget, order, idle_fraction, idle_se,
    idle_residual, shuffle), of MobileNetV3 (multiplier, se_rounding, head_hidden, reduced_tail) and of `MBNet`.
    Raises ValueError for an unknown baseline.
    """
    if baseline not in BASELINES:
        raise ValueError(f"unknown baseline {baseline!r}; choose one of {', '.join(BASELINES)}")
    arch = BASELINES[baseline]
    scaling = {k: options.pop(k) for k in _SCALING if k in options}
    if scaling and arch is not B0:
        arch = scale(arch, **scaling)
    elif scaling:
        raise ValueError(f"{baseline} has no option {', '.join(scaling)}")
    placing = {k: options.pop(k) for k in _COMPOSITION_OPTIONS if k in options}
    return MBNet(compose(arch, composition, **placing), **options)


# Blocks (from 1) of MobileNetV3-Large behind which M=15, I=20 appends IdleBlocks: the ends of its five widths.
_M15_I20 = {3: 4, 6: 4, 10: 5, 12: 4, 15: 3}
_M11_I15 = {3: 4, 6: 4, 8: 4, 11: 3}

_PLACEMENT = "the placement of the IdleBlocks is ours; the paper's text does not give it"


def _named(baseline: str, options: dict, composition: Union[str, Placement] = "none", **defaults) -> MBNet:
    return idle_net(baseline, **{"composition": composition, **defaults, **options})


@register_model(family="idle", paper=PAPER, reconstruction=_PLACEMENT)
def idle_mbv3(**options) -> MBNet:
    """MobileNetV3-Large at equal cost, 33 % deeper: HC(M=10, I=10), blocks 8, 9, 10, 12, 14 become two IdleBlocks."""
    return _named("mobilenet_v3_large", options, {8: 2, 9: 2, 10: 2, 12: 2, 14: 2})


@register_model(
    family="idle",
    paper=PAPER,
    reconstruction="read as the row with 23 % fewer MAdds, which the paper's text suggests",
    representative=True,
)
def idle_mbv3_maximum(**options) -> MBNet:
    """MobileNetV3-Large, every replaceable block idle: HC(M=6, I=9), 24 % fewer multiply-adds."""
    return _named("mobilenet_v3_large", options, "maximum")


@register_model(family="idle", paper=PAPER, reconstruction=_PLACEMENT)
def idle_mbv3_m15_i20(**options) -> MBNet:
    """MobileNetV3-Large with 20 more blocks: HC(M=15, I=20), IdleBlocks appended to the five widths (4, 4, 5, 4, 3)."""
    return _named("mobilenet_v3_large", options, append=_M15_I20)


@register_model(family="idle", paper=PAPER, reconstruction="the text names no MobileNetV3-Small composition")
def idle_mbv3_small(**options) -> MBNet:
    """MobileNetV3-Small at similar cost (+10 %), 55 % deeper: HC(M=5, I=12), each replaceable block becomes two."""
    return _named("mobilenet_v3_small", options, "maximum", idle_per_swap=2)


@register_model(family="idle", paper=PAPER, reconstruction="the text names no MobileNetV3-Small composition")
def idle_mbv3_small_maximum(**options) -> MBNet:
    """MobileNetV3-Small, every replaceable block idle: HC(M=5, I=6), 22 % fewer multiply-adds."""
    return _named("mobilenet_v3_small", options, "maximum")


@register_model(family="idle", paper=PAPER, reconstruction="by analogy with HC(M=15, I=20) of the Large network")
def idle_mbv3_small_m11_i15(**options) -> MBNet:
    """MobileNetV3-Small with 15 more blocks: HC(M=11, I=15), the same 4 idle to 3 MBBlocks as M=15, I=20."""
    return _named("mobilenet_v3_small", options, append=_M11_I15)


@register_model(family="idle", paper=PAPER, reconstruction=_PLACEMENT)
def idle_efficientnet_b0(**options) -> MBNet:
    """EfficientNet-B0 at equal cost, 31 % deeper: HC(M=11, I=10), blocks 7, 8, 13, 14, 15 become two IdleBlocks."""
    return _named("efficientnet_b0", options, {7: 2, 8: 2, 13: 2, 14: 2, 15: 2})


@register_model(family="idle", paper=PAPER, reconstruction=_PLACEMENT)
def idle_efficientnet_b0_maximum(**options) -> MBNet:
    """EfficientNet-B0, every replaceable block idle: HC(M=7, I=9), 25 % fewer multiply-adds."""
    return _named("efficientnet_b0", options, "maximum")


_TINY = SMALL._replace(
    stem=8,
    head=32,
    head_hidden=32,
    rows=(
        Row(3, 16, 16, 8, "relu", 2),
        Row(3, 24, 16, None, "hard_swish", 1),
        Row(3, 32, 24, None, "hard_swish", 2),
    ),
)


@register_model(family="idle", paper=PAPER, reconstruction="not of the paper: for tests", hidden=True, small=True)
def idle_tiny(**options) -> MBNet:
    """Three rows, one of them two IdleBlocks: keeps tests of training short."""
    return MBNet(compose(_TINY, {2: 2}), **options)
