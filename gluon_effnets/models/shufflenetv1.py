"""ShuffleNetV1 (Zhang et al., arXiv 1707.01083, table 1), in the definition of the authors' code.

=======  =====  =====  =====  =====  =====  =======  ============
groups   1      2      3      4      8      units    first stride
=======  =====  =====  =====  =====  =====  =======  ============
stem     24     24     24     24     24              2, then max pooling 2
stage 2  144    200    240    272    384    4        2
stage 3  288    400    480    544    768    8        2
stage 4  576    800    960    1088   1536   4        2
=======  =====  =====  =====  =====  =====  =======  ============

Scale s multiplies the widths. Where the groups do not divide the result the paper says nothing: only the widths of the
authors' code (g = 3 and 8 at 0.5 to 2) and those of table 1 are theirs, the others are ours (`WIDTHS`), fitted to the
published 13 and 38 MFLOPs. The stem is 12 at 0.5 (16 for g = 8) and at 0.25, 24 at 1.5, 48 at 2.

Paper and code differ in the shuffle (docs/shufflenet.md): `shuffle='official'` is the default, 'paper' what the text
says, 'none' the ablation of table 3. The classifier has no bias. The published weights want BGR, 0..255.
"""

from __future__ import annotations

import functools
from typing import Dict, NamedTuple, Optional, Tuple

import mxnet as mx
from mxnet.gluon import nn

from ..nn import ShuffleUnit
from ..nn.channels import check_positive
from .blocknet import BlockNet, BlockRow, Table
from .registry import register_model

__all__ = ["ShuffleNet", "Widths", "max_pool_row", "shufflenet_v1"]

PAPER = "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, arXiv 1707.01083"
UNITS = (4, 8, 4)
REPRESENTATIVE, SMALL = "shufflenet_v1_g3_x1_0", "shufflenet_v1_g3_x0_25"


class Widths(NamedTuple):
    """Stem and stages of a network; `ours` says what neither paper nor code fixes."""

    stem: int
    stages: Tuple[int, int, int]
    ours: str = ""


FITTED = "the paper gives no widths where the groups do not divide them; these are fitted to its {} MFLOPs"
LIKE_G3 = "neither paper nor code has this size; widths like those of g = 3"


def _doubling(stem: int, stage_2: int, ours: str = "") -> Widths:
    return Widths(stem, (stage_2, 2 * stage_2, 4 * stage_2), ours)


# (groups, scale)
WIDTHS: Dict[Tuple[int, float], Widths] = {
    (1, 0.25): _doubling(12, 36, FITTED.format(13)),
    (2, 0.25): _doubling(12, 48, FITTED.format(13)),
    (3, 0.25): _doubling(12, 60, FITTED.format(13)),
    (4, 0.25): _doubling(12, 64, FITTED.format(13)),
    (8, 0.25): _doubling(8, 96, FITTED.format(13)),
    (1, 0.5): _doubling(12, 72),
    (2, 0.5): _doubling(12, 104, FITTED.format(38)),
    (3, 0.5): _doubling(12, 120),
    (4, 0.5): _doubling(12, 144, FITTED.format(38)),
    (8, 0.5): _doubling(16, 192),
    (1, 1.0): _doubling(24, 144),
    (2, 1.0): _doubling(24, 200),
    (3, 1.0): _doubling(24, 240),
    (4, 1.0): _doubling(24, 272),
    (8, 1.0): _doubling(24, 384),
    (1, 1.5): _doubling(24, 216, LIKE_G3),
    (2, 1.5): _doubling(24, 296, LIKE_G3),
    (3, 1.5): _doubling(24, 360),
    (4, 1.5): _doubling(24, 416, LIKE_G3),
    (8, 1.5): _doubling(24, 576),
    (1, 2.0): _doubling(48, 288, LIKE_G3),
    (2, 2.0): _doubling(48, 400, LIKE_G3),
    (3, 2.0): _doubling(48, 480),
    (4, 2.0): _doubling(48, 544, LIKE_G3),
    (8, 2.0): _doubling(48, 768),
}
# Two units less in stage 3, wider maps (version 1 of the paper, whose widths are not known).
ARCH2_UNITS = (4, 6, 4)
ARCH2: Dict[Tuple[int, float], Widths] = {
    (1, 0.5): _doubling(24, 72),
    (2, 0.5): _doubling(8, 112),
    (3, 0.5): _doubling(12, 132),
    (4, 0.5): _doubling(24, 144),
    (8, 0.5): Widths(16, (224, 416, 832)),
    (1, 0.25): _doubling(16, 36),
    (2, 0.25): _doubling(16, 48),
    (3, 0.25): _doubling(12, 60),
    (4, 0.25): _doubling(16, 64),
    (8, 0.25): _doubling(24, 64),
}
SHALLOW_UNITS = (2, 4, 2)
SHALLOW = _doubling(18, 168)


@mx.init.register
class InputsNormal(mx.init.Initializer):
    """The authors': stem and classifier N(0, 0.01^2), other convolutions N(0, 1 / (input channels per group)^2).

    `stem` is the shape of the stem's weight.
    """

    def __init__(self, stem=()):
        super().__init__(stem=tuple(stem))
        self.stem = tuple(stem)

    def _init_weight(self, name, arr):
        sigma = 0.01 if arr.ndim == 2 or arr.shape == self.stem else 1 / arr.shape[1]
        arr[:] = mx.nd.random.normal(0, sigma, arr.shape)


class ShuffleNet(BlockNet):
    """ShuffleNetV1 and V2. `options` are those of `StagedNet`, but without dropout and bias if nothing else is said."""

    def __init__(
        self, table: Table, *args, dropout: float = 0.0, classifier_bias: bool = False, norm_kwargs=None, **options
    ):
        # BN starts with beta 1e-4 in the authors' code.
        norm_kwargs = {"beta_initializer": mx.init.Constant(1e-4), **(norm_kwargs or {})}
        options.update(dropout=dropout, classifier_bias=classifier_bias, norm_kwargs=norm_kwargs)
        super().__init__(table, *args, **options)

    def default_initializer(self) -> mx.init.Initializer:
        return InputsNormal(self.stages[0][0].conv.weight.shape)


def max_pool_row(width: int) -> BlockRow:
    """The max pooling behind the stem, 3x3 with stride 2, as a row of a table."""
    return BlockRow(lambda *_, **__: nn.MaxPool2D(3, 2, 1), width, 2)


def shufflenet_v1(
    widths: Widths,
    groups: int = 3,
    units: Tuple[int, ...] = UNITS,
    *,
    shuffle: str = "official",
    se_ratio: Optional[int] = None,
    stem_pool: bool = True,
    **options,
) -> ShuffleNet:
    """Build a ShuffleNetV1.

    Args:
        widths: Of the stem and of every stage.
        groups: Of the 1x1 convolutions; the first one of the network has none.
        units: Number of units in every stage.
        shuffle: See `gluon_effnets.nn.ShuffleUnit`.
        se_ratio: With squeeze-and-excitation in every unit, reduced so many times.
        stem_pool: Max pooling behind the stem; without it, and with `stem_stride=1`, for images of about 32 pixels.
        options: Those of `StagedNet`.

    Raises ValueError for widths that the groups do not divide, and for groups or a `se_ratio` below 1.
    """
    check_positive("se_ratio", se_ratio)
    rows = [max_pool_row(widths.stem)] if stem_pool else []
    for width, number in zip(widths.stages, units):
        for index in range(number):
            stride = 2 if index == 0 else 1
            # Few input channels: the very first 1x1 convolution stays whole (section 3.2).
            first_groups = 1 if len(rows) == stem_pool else None
            make = functools.partial(
                ShuffleUnit,
                channels=width,
                groups=groups,
                first_groups=first_groups,
                stride=stride,
                shuffle=shuffle,
                se=width // se_ratio if se_ratio else None,
            )
            rows.append(BlockRow(make, width, stride))
    definition = {"shuffle": shuffle, "stem_pool": stem_pool}
    return ShuffleNet(Table(widths.stem, tuple(rows), "relu", se_gate="sigmoid", definition=definition), **options)


def _spelled(scale: float) -> str:
    return f"x{scale}".replace(".", "_")


def _register(name: str, summary: str, widths: Widths, groups: int, units=UNITS, ours: str = "", **fixed) -> None:
    def build(**options) -> ShuffleNet:
        return shufflenet_v1(widths, groups, units, **{**fixed, **options})

    build.__name__ = build.__qualname__ = name
    build.__doc__ = summary
    aliases = (name.replace("_x", "_"),)
    globals()[name] = register_model(
        family="shufflenetv1",
        paper=PAPER,
        reconstruction=ours or widths.ours,
        aliases=aliases,
        representative=name == REPRESENTATIVE,
        small=name == SMALL,
    )(build)
    __all__.append(name)


# Two tables of networks that differ in nothing but numbers.
for (_groups, _scale), _widths in WIDTHS.items():
    _register(
        f"shufflenet_v1_g{_groups}_{_spelled(_scale)}", f"ShuffleNetV1 {_scale}x, g = {_groups}.", _widths, _groups
    )
for (_groups, _scale), _widths in ARCH2.items():
    _register(
        f"shufflenet_v1_arch2_g{_groups}_{_spelled(_scale)}",
        f"ShuffleNetV1 {_scale}x arch2, g = {_groups}: two units less in stage 3, wider.",
        _widths,
        _groups,
        ARCH2_UNITS,
        "only in version 1 of the paper, which gives no widths: "
        + (
            "those of tensorpack" if (_groups, _scale) == (8, 0.5) else f"fitted to {13 if _scale < 0.5 else 40} MFLOPs"
        ),
    )
_register(
    "shufflenet_v1_shallow_g3_x0_5",
    "ShuffleNetV1 0.5x shallow, g = 3: half of the units, wider (table 5).",
    SHALLOW,
    3,
    SHALLOW_UNITS,
    "the paper gives no widths; these are fitted to its 40 MFLOPs",
)
_register(
    "shufflenet_v1_se_g3_x2_0",
    "ShuffleNetV1 2x with squeeze-and-excitation, g = 3 (table 5).",
    WIDTHS[3, 2.0],
    3,
    ours="the paper says nothing about its SE; ratio 16 on the outputs of the units meets its 527 MFLOPs",
    se_ratio=16,
)
