"""ShuffleNetV2 (Ma et al., arXiv 1807.11164, table 5), in the definition of the authors' code or of torchvision.

=======  ====  ====  ====  ====  =====  ============
scale    0.5   1.0   1.5   2.0   units  first stride
=======  ====  ====  ====  ====  =====  ============
stem     24    24    24    24           2, then max pooling 2
stage 2  48    116   176   244   4      2
stage 3  96    232   352   488   8      2
stage 4  192   464   704   976   4      2
conv5    1024  1024  1024  2048
=======  ====  ====  ====  ====  =====  ============

`definition='megvii'` (default) is the authors' code: even and odd channels are told apart at the start of a unit, the
first unit passes 24 channels on, no classifier bias, dropout 0.2 at 2.0 alone; weights want BGR, 0..255.
`definition='torchvision'`: halves, both sides of the first unit alike, the shuffle at the end of every unit, a bias, no
dropout; RGB normalized as usual. Parameters and MAdds differ a little from 1.0 on (docs/shufflenet.md).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Optional, Tuple

from ..nn import Grouping, ShuffleUnitV2
from .blocknet import BlockRow, Table
from .registry import register_model
from .shufflenetv1 import UNITS, ShuffleNet, max_pool_row

__all__ = [
    "shufflenet_v2",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
]

PAPER = "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, arXiv 1807.11164"
STEM = 24
SPLIT_OF = {"megvii": "interleaved", "torchvision": "halves"}


class Column(NamedTuple):
    """A column of table 5."""

    stages: Tuple[int, int, int]
    head: int


SIZES = {
    0.5: Column((48, 96, 192), 1024),
    1.0: Column((116, 232, 464), 1024),
    1.5: Column((176, 352, 704), 1024),
    2.0: Column((244, 488, 976), 2048),
}


def shufflenet_v2(
    column: Column,
    *,
    definition: str = "megvii",
    stem_pool: bool = True,
    update: Optional[Grouping] = None,
    condensed: bool = False,
    **options,
) -> ShuffleNet:
    """Build a ShuffleNetV2.

    `update`: groups and factor of the reactivations in the units without a stride, `condensed`: their inference form
    (`sfr_shufflenetv2`).
    `stem_pool`: max pooling behind the stem; without it, and with `stem_stride=1`, for images of about 32 pixels. The
    other options are those of `StagedNet`; there is nothing that `drop_connect` could drop.

    Raises ValueError for another definition, odd widths, or with `drop_connect`.
    """
    if definition not in SPLIT_OF:
        raise ValueError(f"definition is {definition!r}; choose one of {', '.join(SPLIT_OF)}")
    if options.get("drop_connect"):
        raise ValueError("ShuffleNetV2 adds nothing to an identity: there is no branch for drop_connect to drop")
    rows = [max_pool_row(STEM)] if stem_pool else []
    for width, number in zip(column.stages, UNITS):
        for index in range(number):
            stride = 2 if index == 0 else 1
            make = functools.partial(_unit, channels=width, stride=stride, split=SPLIT_OF[definition])
            if stride == 1:
                make = functools.partial(make, update=update, condensed=condensed)
            rows.append(BlockRow(make, width, stride))
    kept = {"definition": definition, "stem_pool": stem_pool, **({"condensed": condensed} if update else {})}
    table = Table(STEM, tuple(rows), "relu", head=column.head, definition=kept)
    return ShuffleNet(table, **{"classifier_bias": definition == "torchvision", **options})


def _unit(in_channels: int, *, drop_connect: float, **unit: Any) -> ShuffleUnitV2:
    return ShuffleUnitV2(in_channels, **unit)


@register_model(
    family="shufflenetv2",
    paper=PAPER,
    aliases=("shufflenet_v2_0_5",),
    small=True,
    torch=("torchvision", "shufflenet_v2_x0_5", {}),
)
def shufflenet_v2_x0_5(**options) -> ShuffleNet:
    """ShuffleNetV2 0.5: 1.37 M parameters, 40.5 M MAdds (the paper says 1.4 M, 41 M)."""
    return shufflenet_v2(SIZES[0.5], **options)


@register_model(
    family="shufflenetv2",
    paper=PAPER,
    aliases=("shufflenet_v2", "shufflenet_v2_1_0"),
    representative=True,
    torch=("torchvision", "shufflenet_v2_x1_0", {}),
)
def shufflenet_v2_x1_0(**options) -> ShuffleNet:
    """ShuffleNetV2 1.0: 2.28 M parameters, 145.8 M MAdds (the paper says 2.3 M, 146 M)."""
    return shufflenet_v2(SIZES[1.0], **options)


@register_model(
    family="shufflenetv2", paper=PAPER, aliases=("shufflenet_v2_1_5",), torch=("torchvision", "shufflenet_v2_x1_5", {})
)
def shufflenet_v2_x1_5(**options) -> ShuffleNet:
    """ShuffleNetV2 1.5: 3.51 M parameters, 299.0 M MAdds (the paper says 3.5 M, 299 M)."""
    return shufflenet_v2(SIZES[1.5], **options)


@register_model(
    family="shufflenetv2", paper=PAPER, aliases=("shufflenet_v2_2_0",), torch=("torchvision", "shufflenet_v2_x2_0", {})
)
def shufflenet_v2_x2_0(**options) -> ShuffleNet:
    """ShuffleNetV2 2.0: 7.40 M parameters, 590.8 M MAdds (the paper says 7.4 M, 591 M)."""
    megvii = options.get("definition", "megvii") == "megvii"
    return shufflenet_v2(SIZES[2.0], **{"dropout": 0.2 if megvii else 0.0, **options})
