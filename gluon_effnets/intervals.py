"""Means of few measurements with their 95 % intervals, by Student's t."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple, Sequence

__all__ = ["Interval", "mean_interval", "paired_difference"]

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond them that of the normal distribution
# is at most 2 % too small.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval; infinite ends for a single value."""

    mean: float
    low: float
    high: float

    @property
    def has_zero(self) -> bool:
        """Whether zero lies within: no difference was shown."""
        return self.low <= 0 <= self.high


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of independent measurements and its 95 % interval. Raises ValueError without a value."""
    if not values:
        raise ValueError("there is no mean of no values")
    mean, free = statistics.mean(values), len(values) - 1
    if not free:
        return Interval(mean, -math.inf, math.inf)
    quantile = _T95[free - 1] if free <= len(_T95) else 1.96
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def paired_difference(these: Sequence[float], others: Sequence[float]) -> Interval:
    """The mean of these - others, measured in pairs (as with equal seeds), and its 95 % interval.

    Raises:
        ValueError: There are not equally many, or none.
    """
    if len(these) != len(others):
        raise ValueError(f"{len(these)} and {len(others)} values are no pairs")
    return mean_interval([one - other for one, other in zip(these, others)])
