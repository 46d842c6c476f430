"""DetectionScores: what a worker saw of the evaluation images, and what follows from what all of them saw."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence, Union

import numpy as np

from ...files.mistakes import as_mistakes
from ...files.schema import check_type
from ...files.text import shortened, shown
from ..classes import MOST_CLASSES, check_classes
from ..truth import Truth
from .matching import Matches, match_coco, match_voc
from .result import ScoreResult
from .rows import image_rows, images_of_rows

__all__ = ["KINDS", "DetectionScores", "Seen"]

KINDS = ("voc07", "voc12", "coco")


class Seen(NamedTuple):
    """The truth of an image, and its detections: boxes (D, 4) in its pixels, scores and classes (D,)."""

    truth: Truth
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


class DetectionScores:
    """Mean average precision, collected image by image.

    Images may come in any order, and from any number of workers: the result is the same, bit for bit. Of detections
    of equal score those of the image of the lower id come first, or of the earlier name, and within an image those
    that were given first.

    Args:
        classes: Names of the classes, or their number; the background is none of them.
        kind: ``voc07`` (the mean over 11 recalls), ``voc12`` (the area under the curve, as from 2010 on), both at an
            overlap of 0.5 and with VOC's difficult objects left out; or ``coco``: the mean over overlaps of 0.5 to
            0.95, with 11 other figures, and crowds.

    Attributes:
        names: Of the classes; their numbers if they have none.
        images: Those that were added, in the order of their names.

    Raises:
        ValueError: For another kind, or for no classes.
        TypeError: For classes that are neither a number nor names.

    Source:
        VOCevaldet.m and VOCap.m of the development kits of VOC2007 and VOC2012; cocoeval.py of pycocotools 2.0.

    Example:
        >>> scores = DetectionScores(["cat", "dog"], "voc07")
        >>> truth = Truth("000001", (100, 100), np.array([[0, 0, 50, 50]]), np.array([1]), np.array([False]))
        >>> scores.add(truth, np.array([[0, 0, 50, 40]]), np.array([0.9]), np.array([1]))
        >>> scores.result().mean
        1.0
    """

    def __init__(self, classes: Union[int, Sequence[str]], kind: str = "voc12"):
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"there are no scores {shortened(kind)}; choose from {', '.join(KINDS)}")
        check_classes(classes, "classes of the scores")
        self.names = list(map(str, range(classes))) if isinstance(classes, int) else list(classes)
        self.kind = kind
        self._seen: Dict[str, Seen] = {}

    def add(self, truth: Truth, boxes: Any, scores: Any, classes: Any) -> None:
        """Add an image.

        Args:
            truth: What is on it.
            boxes: Its detections: x and y of two corners, the second exclusive, in pixels of the original, (K, 4).
            scores: (K,), in any order.
            classes: (K,), from 0; a place with a negative class holds no detection.

        Raises:
            ValueError: The image was added before, a class does not exist, a number is not finite, or the arrays have
                other shapes.
            TypeError: The truth or its name is none.
        """
        check_type("truth", truth, Truth, words="a Truth")
        check_type("truth.image", truth.image, str, words="a text")
        if truth.image in self._seen:
            raise ValueError(f"image {shown(truth.image)} is there twice; every image is evaluated once")
        with as_mistakes(f"these are no objects and detections of {shown(truth.image)}"):
            seen = _seen(truth, boxes, scores, classes)
        self._check(seen)
        self._seen[truth.image] = seen

    def _check(self, seen: Seen) -> None:
        truth, where = seen.truth, shown(seen.truth.image)
        for labels, whose in ((seen.classes, "a detection"), (truth.classes, "an object")):
            if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.names):
                raise ValueError(f"the class of {whose} on {where} is none of {len(self.names)}")
        if not (np.isfinite(seen.boxes).all() and np.isfinite(seen.scores).all()):
            raise ValueError(f"a box or a score of the detections on {where} is no finite number")
        areas = truth.boxes if truth.areas is None else truth.areas
        if not len(truth.boxes) == len(truth.classes) == len(truth.difficult) == len(areas):
            raise ValueError(f"the truth of {where} has not as many classes as boxes")
        if not (np.isfinite(truth.boxes).all() and np.isfinite(areas).all()):
            raise ValueError(f"a box or an area of the truth of {where} is no finite number")

    @property
    def images(self) -> List[Seen]:
        """The images that were added, in the order of their names; numbers by their size."""
        return [self._seen[name] for name in sorted(self._seen, key=_place)]

    def image(self, name: str) -> Seen:
        """Return one of the images that were added, by its name."""
        return self._seen[name]

    def rows(self) -> np.ndarray:
        """Return all that was added, (R, 8) float64: rows of several workers, one after the other, hold what all saw.

        Nothing is rounded, as long as the rows stay float64.
        """
        return np.concatenate([np.empty((0, 8)), *map(image_rows, self._seen.values())])

    @classmethod
    def of_rows(cls, classes: Union[int, Sequence[str]], kind: str, rows: np.ndarray) -> DetectionScores:
        """Return the scores whose `rows`, perhaps of several workers, these are.

        Raises:
            ValueError: An image is there twice.
        """
        scores = cls(classes, kind)
        for image in images_of_rows(rows):
            scores.add(*image)
        return scores

    def matches(self) -> Matches:
        """Return which detections found which objects; images have their places in `images` as numbers."""
        match = match_coco if self.kind == "coco" else match_voc
        nothing = Truth("", (0, 0), np.empty((0, 4)), np.empty(0, int), np.empty(0, bool))
        parts = [match(number, *seen) for number, seen in enumerate(self.images)]
        return Matches.joined([match(0, nothing, np.empty((0, 4)), np.empty(0), np.empty(0, int)), *parts])

    def result(self) -> ScoreResult:
        """Return the scores of all images that were added."""
        return ScoreResult(self.kind, self.names, len(self._seen), self.matches())


def _seen(truth: Truth, boxes: Any, scores: Any, classes: Any) -> Seen:
    """An image as arrays of one type, without the places that hold no detection."""
    truth = Truth(
        truth.image,
        (int(truth.size[0]), int(truth.size[1])),
        np.asarray(truth.boxes, np.float64).reshape(-1, 4),
        _labels(truth.classes),
        np.asarray(truth.difficult, bool).reshape(-1),
        None if truth.areas is None else np.asarray(truth.areas, np.float64).reshape(-1),
    )
    found, labels = np.asarray(boxes, np.float64).reshape(-1, 4), _labels(classes)
    given = np.asarray(scores, np.float64).reshape(-1)
    if not len(found) == len(given) == len(labels):
        raise TypeError(f"there are {len(found)} boxes, {len(given)} scores and {len(labels)} classes of detections")
    there = labels >= 0
    return Seen(truth, found[there], given[there], labels[there])


def _labels(classes: Any) -> np.ndarray:
    numbers = np.asarray(classes, np.float64).reshape(-1)
    if not (np.abs(numbers) <= MOST_CLASSES).all():  # NaN is neither
        raise OverflowError("a class is no number")
    return numbers.astype(int)


def _place(name: str) -> Any:
    """What images are sorted by."""
    return (0, int(name), name) if name.isascii() and name.isdigit() else (1, 0, name)
