"""ScoreResult: the average precision of every class, and what else the rules of VOC and COCO say."""

from __future__ import annotations

import math
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .curves import Curve, area_of_voc07, area_of_voc12, points_of_coco, precision_curve
from .matching import COCO_AREAS, COCO_LIMITS, Matches

__all__ = ["ClassCounts", "ScoreResult"]

_AREA_OF: Dict[str, Callable[[Curve], float]] = {
    "voc07": area_of_voc07,
    "voc12": area_of_voc12,
    "coco": lambda curve: float(points_of_coco(curve).mean()),
}
_RESAMPLED = 300


class ClassCounts(NamedTuple):
    """Objects of a class that count, and its detections that do; a detection finds at most one object."""

    objects: int
    detections: int
    found: int


class ScoreResult:
    """The scores of a detector on some images.

    Args:
        kind: 'voc07', 'voc12' or 'coco'.
        names: Of the classes.
        images: How many there are.
        matches: Their detections and objects.

    Attributes:
        mean: Mean average precision, 0 to 1, over the classes that have objects which count; nan if none has.
        by_class: The average precision of every class by its name; nan without objects.
        figures: COCO's 12 figures: AP, AP50, AP75, AP_small, AP_medium, AP_large, AR_1, AR_10, AR_100, AR_small,
            AR_medium and AR_large; nan without objects, where pycocotools writes -1. For VOC `mean` as "map".
        curves: Precision over recall at an overlap of 0.5, of the classes that have objects.
        counts: ClassCounts of every class, at an overlap of 0.5.
    """

    def __init__(self, kind: str, names: Sequence[str], images: int, matches: Matches):
        self.kind, self.images = kind, images
        self._names, self._matches = list(names), matches
        areas = self._areas()
        self.by_class = {name: _mean(areas[label]) for label, name in enumerate(names)}
        self.mean = _mean(list(self.by_class.values()))
        self.curves, self.counts = self._curves()
        self.figures = self._coco_figures(areas) if kind == "coco" else {"map": self.mean}

    def interval(self) -> Tuple[float, float]:
        """Return the 95 % confidence interval of `mean`, by the bootstrap over the images.

        So many images are drawn with replacement as there are, 300 times. The draws are the same in every call.
        """
        random = np.random.RandomState(0)
        counted = [self._counted(label) for label in range(len(self._names))]
        means = []
        for _ in range(_RESAMPLED if self.images else 0):
            weights = np.bincount(random.randint(self.images, size=self.images), minlength=self.images)
            mean = _mean([_mean(self._class_areas(own, weights)) for own in counted])
            means += [] if math.isnan(mean) else [mean]
        low, high = np.percentile(means, (2.5, 97.5)).tolist() if means else (math.nan, math.nan)
        return low, high

    def _counted(self, label: int, area: int = 0, limit: Optional[int] = None) -> _Counted:
        """What counts of a class, by falling score."""
        matches = self._matches
        rows = np.flatnonzero(matches.classes == label)
        if limit is not None:
            rows = rows[matches.rank[rows] < limit]
        rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
        true = (matches.true_classes == label) & ~matches.true_ignored[area]
        steps = range(matches.found.shape[1])
        rows_of = [rows[~matches.ignored[area, step, rows]] for step in steps]
        found = [matches.found[area, step, own] for step, own in zip(steps, rows_of)]
        return _Counted(rows_of, found, matches.true_image[true])

    def _class_areas(self, counted: _Counted, weights: Optional[np.ndarray] = None) -> list:
        """The area under the curve at each overlap, nan without objects; images are counted `weights` times."""
        objects = len(counted.true_image) if weights is None else int(weights[counted.true_image].sum())
        if not objects:
            return [math.nan]
        image, scores = self._matches.image, self._matches.scores
        areas = []
        for rows, found in zip(counted.rows, counted.found):
            # What stands behind the last object that was found adds nothing.
            end = int(np.flatnonzero(found)[-1]) + 1 if found.any() else 0
            own = None if weights is None else weights[image[rows[:end]]]
            areas.append(_AREA_OF[self.kind](precision_curve(found[:end], objects, scores[rows[:end]], own)))
        return areas

    def _areas(self, area: int = 0) -> list:
        """The areas of every class at each overlap."""
        return [self._class_areas(self._counted(label, area)) for label in range(len(self._names))]

    def _curves(self):
        curves, counts = {}, {}
        for label, name in enumerate(self._names):
            counted = self._counted(label)
            rows, found, objects = counted.rows[0], counted.found[0], len(counted.true_image)
            counts[name] = ClassCounts(objects, len(rows), int(found.sum()))
            if objects:
                curves[name] = precision_curve(found, objects, self._matches.scores[rows])
        return curves, counts

    def _coco_figures(self, areas: list) -> Dict[str, float]:
        sizes = list(COCO_AREAS)[1:]
        with_objects = [own for own in areas if len(own) > 1]
        figures = {"AP": self.mean}
        for name, step in (("AP50", 0), ("AP75", 5)):
            figures[name] = _mean([own[step] for own in with_objects])
        for number, size in enumerate(sizes, 1):
            figures[f"AP_{size}"] = _mean([_mean(own) for own in self._areas(number)])
        for limit in COCO_LIMITS:
            figures[f"AR_{limit}"] = self._recall(0, limit)
        for number, size in enumerate(sizes, 1):
            figures[f"AR_{size}"] = self._recall(number, COCO_LIMITS[-1])
        return figures

    def _recall(self, area: int, limit: int) -> float:
        recalls = []
        for label in range(len(self._names)):
            counted = self._counted(label, area, limit)
            if len(counted.true_image):
                recalls.append(_mean([found.sum() / len(counted.true_image) for found in counted.found]))
        return _mean(recalls)


class _Counted(NamedTuple):
    """Of one class: its detections by falling score and whether they found something, at each overlap; its objects."""

    rows: list
    found: list
    true_image: np.ndarray


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
