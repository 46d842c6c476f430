"""MobileNetV3-Large and -Small (Howard et al., arXiv 1905.02244, tables 1 and 2).

Table 1 (Large): k, exp, out, SE, NL, s of the 15 blocks below; stem 16, last 1x1 convolution 960, 1280 after pooling.
Table 2 (Small): 11 blocks, last 1x1 convolution 576, 1024 after pooling.

The paper gives SE as a tick. Its reduced widths are those of the TensorFlow code, timm and torchvision: a quarter of
the hidden width, rounded to the nearest multiple of 8 (`se_rounding`). The layer after pooling has a bias and no BN.

Where definitions differ (same names, other numbers), options reproduce each:

==============  ================  =============================  ==============  =============================
option          default (timm)    TensorFlow slim, timm `tf_*`   torchvision     GluonCV
==============  ================  =============================  ==============  =============================
bn_epsilon      1e-5              1e-3                           1e-3            1e-5
padding         symmetric         same                           symmetric       symmetric
se_rounding     nearest           nearest                        nearest         ceil (equal at these widths)
head_hidden     1280 / 1024       1280 / 1024                    1280 / 1024     1280 / 1280, without bias
==============  ================  =============================  ==============  =============================

The first versions of the paper, and GluonCV, have 1280 instead of 1024 in the Small network: `head_hidden=1280`.
"""

from __future__ import annotations

from typing import Optional

from .mbnet import Architecture, MBNet, Row, round_channels
from .registry import register_model

__all__ = ["LARGE", "SMALL", "mobilenet_v3", "mobilenet_v3_large", "mobilenet_v3_small"]

PAPER = "Searching for MobileNetV3, arXiv 1905.02244"
RE, HS = "relu", "hard_swish"

# fmt: off
LARGE = Architecture(stem=16, head=960, head_hidden=1280, act=HS, rows=(
    #   k  exp  out  SE    NL  s
    Row(3, 16, 16, None, RE, 1, expand=False),
    Row(3, 64, 24, None, RE, 2),
    Row(3, 72, 24, None, RE, 1),
    Row(5, 72, 40, 24, RE, 2),
    Row(5, 120, 40, 32, RE, 1),
    Row(5, 120, 40, 32, RE, 1),
    Row(3, 240, 80, None, HS, 2),
    Row(3, 200, 80, None, HS, 1),
    Row(3, 184, 80, None, HS, 1),
    Row(3, 184, 80, None, HS, 1),
    Row(3, 480, 112, 120, HS, 1),
    Row(3, 672, 112, 168, HS, 1),
    Row(5, 672, 160, 168, HS, 2),
    Row(5, 960, 160, 240, HS, 1),
    Row(5, 960, 160, 240, HS, 1),
))
SMALL = Architecture(stem=16, head=576, head_hidden=1024, act=HS, rows=(
    Row(3, 16, 16, 8, RE, 2, expand=False),
    Row(3, 72, 24, None, RE, 2),
    Row(3, 88, 24, None, RE, 1),
    Row(5, 96, 40, 24, HS, 2),
    Row(5, 240, 40, 64, HS, 1),
    Row(5, 240, 40, 64, HS, 1),
    Row(5, 120, 48, 32, HS, 1),
    Row(5, 144, 48, 40, HS, 1),
    Row(5, 288, 96, 72, HS, 2),
    Row(5, 576, 96, 144, HS, 1),
    Row(5, 576, 96, 144, HS, 1),
))
# fmt: on


def mobilenet_v3(
    arch: Architecture,
    *,
    multiplier: float = 1.0,
    se_rounding: str = "nearest",
    head_hidden: Optional[int] = None,
    reduced_tail: bool = False,
    **options,
) -> MBNet:
    """Build a MobileNetV3 from its table, with every width times `multiplier` (the 1280 after pooling stays).

    `reduced_tail`: see `scale`. `options` are those of `MBNet`.
    """
    return MBNet(scale(arch, multiplier, se_rounding, head_hidden, reduced_tail), **options)


def scale(
    arch: Architecture,
    multiplier: float = 1.0,
    se_rounding: str = "nearest",
    head_hidden: Optional[int] = None,
    reduced_tail: bool = False,
) -> Architecture:
    """Return the table with all widths scaled and the SE widths rounded as asked.

    Hidden widths are scaled as torchvision does; timm and TensorFlow multiply the rounded input width by the ratio
    instead, so that their networks of other widths than 1.0 differ in a few numbers.

    `reduced_tail` halves the widths behind the last stride, as detectors have them (section 6.3 of the paper).
    """
    if reduced_tail:
        arch = _with_half_a_tail(arch)

    def widen(row: Row) -> Row:
        hidden = round_channels(row.hidden * multiplier)
        se = round_channels(hidden // 4, se_rounding) if row.se else None
        return row._replace(hidden=hidden, out=round_channels(row.out * multiplier), se=se)

    return arch._replace(
        stem=round_channels(arch.stem * multiplier),
        rows=tuple(widen(row) for row in arch.rows),
        head=round_channels(arch.head * multiplier),
        head_hidden=head_hidden or arch.head_hidden,
    )


def _with_half_a_tail(arch: Architecture) -> Architecture:
    last = max(number for number, row in enumerate(arch.rows) if row.stride > 1)
    rows = list(arch.rows)
    for number in range(last, len(rows)):
        # The hidden width of the strided block belongs to the map before it.
        hidden = rows[number].hidden // (1 if number == last else 2)
        rows[number] = rows[number]._replace(hidden=hidden, out=rows[number].out // 2)
    halved = arch.head_hidden and arch.head_hidden // 2
    return arch._replace(rows=tuple(rows), head=arch.head // 2, head_hidden=halved)


@register_model(
    family="mobilenetv3",
    paper=PAPER,
    aliases=("mobilenetv3_large",),
    representative=True,
    torch=("torchvision", "mobilenet_v3_large", {}),
)
def mobilenet_v3_large(**options) -> MBNet:
    """MobileNetV3-Large: 5.48 M parameters, 216.6 M MAdds (the paper says 5.4 M, 219 M)."""
    return mobilenet_v3(LARGE, **options)


@register_model(
    family="mobilenetv3",
    paper=PAPER,
    aliases=("mobilenetv3_small",),
    small=True,
    torch=("torchvision", "mobilenet_v3_small", {}),
)
def mobilenet_v3_small(**options) -> MBNet:
    """MobileNetV3-Small: 2.54 M parameters, 56.5 M MAdds."""
    return mobilenet_v3(SMALL, **options)
