"""SFR-ShuffleNetV2: ShuffleNetV2 whose units without a stride reactivate what passes (CondenseNetV2, figure 5).

There is no official code. From the figure and its author: only units without a stride; p1 is the output of the branch,
p2 the half that passes; p2 + SFR(p1) and p1 are joined and shuffled as ever. Ours to decide were: p1 is taken behind
its last ReLU, which is the literal reading; the activation in the module is ReLU; G = S = 2, the only numbers that
divide the halves of all sizes (58, 116, 232 channels at 1.0). No accuracy, cost or recipe is published.

`condensed=True` is the network at inference (`gluon_effnets.models.condense`).
"""

from __future__ import annotations

from ..nn import Grouping
from .condensenetv2 import PAPER
from .registry import register_model
from .shufflenetv1 import ShuffleNet
from .shufflenetv2 import SIZES, shufflenet_v2

__all__ = [
    "sfr_shufflenet_v2",
    "sfr_shufflenet_v2_x0_5",
    "sfr_shufflenet_v2_x1_0",
    "sfr_shufflenet_v2_x1_5",
]

OURS = "no official code; the place behind the last ReLU, the activation and G = S = 2 are inferred from figure 5"


def sfr_shufflenet_v2(scale: float, groups: int = 2, factor: int = 2, **options) -> ShuffleNet:
    """Build a ShuffleNetV2 of a published scale with reactivations of `groups` and `factor`.

    The other options are those of `shufflenet_v2`. Raises ValueError for halves that groups or factor do not divide.
    """
    return shufflenet_v2(SIZES[scale], update=Grouping(groups, factor), **options)


@register_model(family="sfr_shufflenetv2", paper=PAPER, reconstruction=OURS, small=True)
def sfr_shufflenet_v2_x0_5(**options) -> ShuffleNet:
    """ShuffleNetV2 0.5 with sparse feature reactivation: 1.39 M parameters and 43.4 M MAdds when condensed."""
    return sfr_shufflenet_v2(0.5, **options)


@register_model(family="sfr_shufflenetv2", paper=PAPER, reconstruction=OURS, representative=True)
def sfr_shufflenet_v2_x1_0(**options) -> ShuffleNet:
    """ShuffleNetV2 1.0 with sparse feature reactivation: 2.42 M parameters and 163.0 M MAdds when condensed."""
    return sfr_shufflenet_v2(1.0, **options)


@register_model(family="sfr_shufflenetv2", paper=PAPER, reconstruction=OURS)
def sfr_shufflenet_v2_x1_5(**options) -> ShuffleNet:
    """ShuffleNetV2 1.5 with sparse feature reactivation: 3.82 M parameters and 338.4 M MAdds when condensed."""
    return sfr_shufflenet_v2(1.5, **options)
