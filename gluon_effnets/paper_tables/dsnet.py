"""The tables of DS-Net (arXiv 2103.13258) as far as READMEs have them."""

from __future__ import annotations

from .table import PaperTable, Row

__all__ = ["TABLES"]

PAPER = "arXiv 2103.13258"
README = "README of changlin31/DS-Net"
SLIMMABLE = "README of JiahuiYu/slimmable_networks"
RULES = ("conv_fc", "conv_fc_pool")

TABLES = (
    PaperTable(
        PAPER,
        1,
        "the 14 widths of DS-MBNet, without its gate",
        tuple(Row(f"sub-network {index}", "ds_mobilenet_v1", subnet=index) for index in range(14)),
        ("top-1", "top-5"),
        "The authors count average pools, too. No number of the gated networks could be read but the abstract's: 1.62 "
        "times the speed.",
        RULES,
        "sub-networks",
        (README, f"{README} (average pools counted)"),
    ),
    PaperTable(
        PAPER,
        2,
        "slimmable networks to compare with",
        (
            *(Row(f"US-MobileNet v1, width {i}", "slimmable_mobilenet_v1", subnet=i) for i in range(4)),
            *(Row(f"S-ResNet-50, width {i}", "slimmable_resnet50", subnet=i) for i in range(4)),
        ),
        ("top-1 error",),
        "",
        RULES,
        "slimmable baselines",
        (f"{SLIMMABLE} (US-MobileNet v1)", f"{SLIMMABLE} (S-ResNet-50, a BN of its own per width)"),
    ),
    PaperTable(
        PAPER,
        3,
        "DS-ResNet-50, four ratios in four stages",
        tuple(
            Row(f"ratio {ratio} in every stage", "ds_resnet50", subnet=index)
            for index, ratio in enumerate((0.25, 0.5, 0.75, 1.0))
        ),
        (),
        "No code was released and no number could be read: a reconstruction.",
        RULES,
        "DS-ResNet-50",
    ),
)
