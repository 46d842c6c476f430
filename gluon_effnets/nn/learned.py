"""The learned layers by their numbers, in training or in inference form."""

from __future__ import annotations

from typing import Any, NamedTuple

from .condensed import CondensedConv, CondensedReactivation
from .masked import LearnedGroupConv, SparseFeatureReactivation

__all__ = ["Grouping", "learned_group_conv", "reactivation"]


class Grouping(NamedTuple):
    """Numbers of a learned layer.

    Attributes:
        groups: Of the convolution.
        factor: By which each group is pruned (the papers' C and S).
    """

    groups: int
    factor: int


def learned_group_conv(in_channels: int, channels: int, grouping: Grouping, condensed: bool = False, **options: Any):
    """Make a `LearnedGroupConv`, or the `CondensedConv` that it becomes.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        grouping: Groups and factor.
        condensed: Whether it is the inference form.
        options: Further arguments of the layer.
    """
    layer = CondensedConv if condensed else LearnedGroupConv
    return layer(in_channels, channels, **grouping._asdict(), **options)


def reactivation(in_channels: int, channels: int, grouping: Grouping, condensed: bool = False, **options: Any):
    """Make a `SparseFeatureReactivation`, or the `CondensedReactivation` that it becomes.

    Args:
        in_channels: Channels of the new features.
        channels: Channels of the old features, which the result is added to.
        grouping: Groups and factor.
        condensed: Whether it is the inference form.
        options: Further arguments of the layer.
    """
    layer = CondensedReactivation if condensed else SparseFeatureReactivation
    return layer(in_channels, channels, **grouping._asdict(), **options)
