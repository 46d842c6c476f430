"""The learned layers by their numbers, in training or in inference form."""

from __future__ import annotations

from typing import Any, NamedTuple

from .condensed import CondensedConv, CondensedReactivation
from .masked import LearnedGroupConv, SparseFeatureReactivation

__all__ = ["Grouping", "learned_group_conv", "reactivation"]


class Grouping(NamedTuple):
    """Number of groups of a learned convolution, and the factor by which each group is pruned (the papers' C and S)."""

    groups: int
    factor: int


def learned_group_conv(in_channels: int, channels: int, grouping: Grouping, condensed: bool = False, **options: Any):
    """A `LearnedGroupConv`, or the `CondensedConv` that it becomes."""
    layer = CondensedConv if condensed else LearnedGroupConv
    return layer(in_channels, channels, **grouping._asdict(), **options)


def reactivation(in_channels: int, channels: int, grouping: Grouping, condensed: bool = False, **options: Any):
    """A `SparseFeatureReactivation`, or the `CondensedReactivation` that it becomes."""
    layer = CondensedReactivation if condensed else SparseFeatureReactivation
    return layer(in_channels, channels, **grouping._asdict(), **options)
