"""Curves of precision over recall, and what is under them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Curve", "area_of_voc07", "area_of_voc12", "points_of_coco", "precision_curve"]

# As NumPy has them, and so all the usual implementations: 0.3, 0.6 and 0.7 are an ulp above.
_ELEVEN = np.linspace(0, 1, 11)
_HUNDRED = np.linspace(0, 1, 101)


class Curve(NamedTuple):
    """Precision over recall of one class, by falling score.

    Attributes:
        recall, precision, scores: (D,); the scores are those from which on detections are counted.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


def precision_curve(found: np.ndarray, objects: float, scores: np.ndarray, weights=None) -> Curve:
    """Return the curve of detections by falling score.

    Args:
        found: Whether each found an object, (D,).
        objects: How many there are, at least 1.
        scores: (D,).
        weights: How often each detection is counted, (D,); None: once.
    """
    all_ones = weights is None
    right = np.cumsum(found if all_ones else found * weights, dtype=np.float64)
    seen = np.arange(1, len(found) + 1) if all_ones else np.cumsum(weights, dtype=np.float64)
    return Curve(right / objects, right / np.maximum(seen, 1), scores)


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The highest precision at this recall or a higher one."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _at(curve: Curve, recalls: np.ndarray) -> np.ndarray:
    """The highest precision at each recall or a higher one; 0 where there is none."""
    places = np.searchsorted(curve.recall, recalls, side="left")
    return np.append(_envelope(curve.precision), 0)[places]


def area_of_voc07(curve: Curve) -> float:
    """Return the mean of the highest precisions at recalls of at least 0, 0.1 ... 1."""
    return float(_at(curve, _ELEVEN).sum() / 11)


def area_of_voc12(curve: Curve) -> float:
    """Return the area under the highest precisions at each recall or a higher one."""
    steps = np.diff(curve.recall, prepend=0)
    return float((steps * _envelope(curve.precision)).sum())


def points_of_coco(curve: Curve) -> np.ndarray:
    """Return the highest precisions at recalls of at least 0, 0.01 ... 1, (101,); their mean is the area."""
    return _at(curve, _HUNDRED)
