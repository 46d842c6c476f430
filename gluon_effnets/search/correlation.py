"""Rank correlation of scores with what separately trained networks reach, also at equal cost."""

from __future__ import annotations

import math
from typing import Optional, Sequence

import numpy as np

__all__ = ["partial_rank_correlation", "rank_correlation"]


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> Optional[float]:
    """Spearman's correlation: of the ranks, ties with their mean rank. None where one side is constant.

    Args:
        one, other: Numbers of the same things.

    Example:
        >>> rank_correlation([1, 2, 3, 4], [10, 20, 40, 30])
        0.8
    """
    if len(one) != len(other) or len(one) < 2:
        raise ValueError(f"a correlation needs two lists of equal length, at least 2, not {len(one)} and {len(other)}")
    ranks = [_ranks(values) for values in (one, other)]
    centered = [rank - rank.mean() for rank in ranks]
    size = math.sqrt(float((centered[0] ** 2).sum() * (centered[1] ** 2).sum()))
    return float((centered[0] * centered[1]).sum()) / size if size else None


def partial_rank_correlation(one: Sequence[float], other: Sequence[float], given: Sequence[float]) -> Optional[float]:
    """Spearman's correlation of two lists with the ranks of a third held fixed; None where that decides one of them.

    What a score says beyond `given`: with MAdds there, its correlation at equal multiply-adds.

    Args:
        one, other: Numbers of the same things.
        given: What is held fixed, of the same things.
    """
    both, first, second = rank_correlation(one, other), rank_correlation(one, given), rank_correlation(other, given)
    if both is None or first is None or second is None:
        return both if both is not None and (first is None and second is None) else None
    size = (1 - first**2) * (1 - second**2)
    return (both - first * second) / math.sqrt(size) if size > 1e-12 else None


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, float)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
