"""Slimmable MobileNetV1 and ResNet-50 (Yu et al., arXiv 1812.08928 and 1903.05134): one ratio for all, no gates.

As in DS-Net and in universally slimmable networks gamma and beta are common to all widths and BN statistics are not;
the first slimmable networks had BN layers of their own for every width.
"""

from __future__ import annotations

from typing import Sequence, Tuple

from .dsnet import RATIOS, RESNET50, SlimmableMobileNet, SlimmableResNet, Stage
from .mobilenetv1 import STAGES, STEM
from .registry import register_model
from .slimmable import Slot

__all__ = ["slimmable_mobilenet_v1", "slimmable_resnet50"]

PAPER = "Universally Slimmable Networks and Improved Training Techniques, arXiv 1903.05134"
DIVISOR = 8


def _widths(width: int, ratios: Sequence[float]) -> Tuple[int, ...]:
    return tuple(max(DIVISOR, int(width * ratio / DIVISOR + 0.5) * DIVISOR) for ratio in ratios)


def _checked(ratios: Sequence[float]) -> Tuple[float, ...]:
    ratios = tuple(ratios)
    if len(ratios) < 2 or sorted(set(ratios)) != list(ratios) or ratios[0] <= 0 or ratios[-1] != 1:
        raise ValueError(f"ratios={ratios} must be two or more above 0, ascending, and end with 1")
    return ratios


@register_model(family="dsnet", paper=PAPER, aliases=("us_mobilenet_v1",))
def slimmable_mobilenet_v1(ratios: Sequence[float] = RATIOS, **options) -> SlimmableMobileNet:
    """Slimmable MobileNetV1: the widths 0.25, 0.5, 0.75 and 1 of `ratios`, rounded to multiples of 8.

    Options are those of `StagedNet`, dropout 0 if not given.
    """
    ratios = _checked(ratios)
    stages = [Stage(_widths(stage.out, ratios), stage.out, stage.units, stage.stride) for stage in STAGES]
    return SlimmableMobileNet(Slot(_widths(STEM, ratios), STEM, 0), stages, act="relu", **{"dropout": 0.0, **options})


@register_model(family="dsnet", paper=PAPER, aliases=("us_resnet50",), torch=("torchvision", "resnet50", {}))
def slimmable_resnet50(ratios: Sequence[float] = RATIOS, **options) -> SlimmableResNet:
    """Slimmable ResNet-50: the widths 0.25, 0.5, 0.75 and 1 of `ratios`, rounded to multiples of 8, in all stages.

    Options are those of `SlimmableResNet`.
    """
    ratios = _checked(ratios)
    inner = [_widths(out // 4, ratios) for out, _, _ in RESNET50]
    stages = [
        Stage(tuple(4 * width for width in widths), out, units, stride)
        for widths, (out, units, stride) in zip(inner, RESNET50)
    ]
    return SlimmableResNet(Slot(_widths(64, ratios), 64, 0), stages, **options)
