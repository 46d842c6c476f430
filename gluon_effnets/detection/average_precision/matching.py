"""Which detections of an image find which of its objects, by the rules of VOC and of COCO."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..truth import Truth
from .overlap import box_areas, overlaps

__all__ = ["COCO_AREAS", "COCO_LIMITS", "COCO_OVERLAPS", "Matches", "match_coco", "match_voc"]

VOC_OVERLAP = 0.5
COCO_OVERLAPS = np.linspace(0.5, 0.95, 10)
COCO_LIMITS = (1, 10, 100)  # detections of a class in an image
COCO_AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}


class Matches(NamedTuple):
    """What became of the detections and objects of some images, for A ranges of areas and T overlaps.

    Attributes:
        image, classes, scores: Of the detections, (D,); those of an image by falling score.
        rank: Place of a detection among those of its class and image, (D,), from 0.
        found: Whether a detection found an object, (A, T, D).
        ignored: Whether it counts for nothing, (A, T, D).
        true_image, true_classes: Of the objects, (G,).
        true_ignored: Whether an object counts for nothing, (A, G).
    """

    image: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    rank: np.ndarray
    found: np.ndarray
    ignored: np.ndarray
    true_image: np.ndarray
    true_classes: np.ndarray
    true_ignored: np.ndarray

    @staticmethod
    def joined(parts: list) -> Matches:
        """The matches of several images as one."""
        return Matches(*(np.concatenate(arrays, axis=-1) for arrays in zip(*parts)))


def match_voc(number: int, truth: Truth, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Matches:
    """Match the detections of one image as VOC's development kit does (``VOCevaldet.m``).

    A detection goes to the object of its class that it overlaps most, found before or not, and finds it if the overlap
    is at least 0.5 and no earlier detection did. On a difficult object it counts for nothing. Of detections of equal
    score the one that was given first comes first, and so does the first of two objects with equal overlaps.

    Args:
        number: Of the image.
        truth: Its objects.
        boxes, scores, classes: Its detections, (D, 4), (D,) and (D,).
    """
    order = np.argsort(-scores, kind="stable")
    boxes, scores, classes = boxes[order], scores[order], classes[order]
    common = np.where(classes[:, None] == truth.classes[None], overlaps(boxes, truth.boxes), -1)
    difficult = np.asarray(truth.difficult, bool)
    found, ignored = np.zeros((2, len(scores)), bool)
    if common.size:
        nearest, far = common.argmax(axis=1), common.max(axis=1) < VOC_OVERLAP
        ignored = ~far & difficult[nearest]
        rows = np.flatnonzero(~far & ~ignored)
        # The first detection of every object.
        found[rows[np.unique(nearest[rows], return_index=True)[1]]] = True
    return _matches(number, truth, scores, classes, found[None, None], ignored[None, None], difficult[None])


def match_coco(number: int, truth: Truth, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Matches:
    """Match the detections of one image as COCO does (``COCOeval.evaluateImg`` of pycocotools).

    The 100 best of each class are taken. By falling score each finds, of the objects of its class that are free and
    that it overlaps enough, the one that it overlaps most, the last one of several. Objects outside of the range of
    areas, and crowds, are taken only by what finds no other; a crowd is never used up. Such detections count for
    nothing, and so do those of other areas that find nothing.

    Arguments as for `match_voc`; `difficult` are the crowds.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[_rank(classes[order]) < COCO_LIMITS[-1]]
    boxes, scores, classes = boxes[order], scores[order], classes[order]
    crowd = np.asarray(truth.difficult, bool)
    areas = box_areas(truth.boxes) if truth.areas is None else truth.areas
    true_ignored = crowd | _outside(areas)
    common = np.where(classes[:, None] == truth.classes[None], overlaps(boxes, truth.boxes, crowd), -1)
    enough = np.minimum(COCO_OVERLAPS, 1 - 1e-10)
    shape = (len(COCO_AREAS), len(enough))
    found, ignored = np.zeros((2, *shape, len(scores)), bool)
    free = np.ones((*shape, len(areas)), bool)
    area, step = np.ogrid[: shape[0], : shape[1]]
    for row in np.flatnonzero(common.max(axis=1, initial=-1) >= enough[0]):
        near = np.flatnonzero(common[row] >= enough[0])[::-1]  # the last one first: argmax takes the first
        possible = free[..., near] & (common[row, near] >= enough[:, None])
        counted = possible & ~true_ignored[:, None, near]
        candidates = np.where(counted.any(axis=-1, keepdims=True), counted, possible)
        taken = near[np.where(candidates, common[row, near], -1).argmax(axis=-1)]
        success = possible.any(axis=-1)
        found[..., row] = success
        ignored[..., row] = success & true_ignored[area, taken]
        free[area, step, taken] &= ~success | crowd[taken]
    ignored |= ~found & _outside(box_areas(boxes))[:, None]
    return _matches(number, truth, scores, classes, found, ignored, true_ignored)


def _outside(areas: np.ndarray) -> np.ndarray:
    """Whether areas (N,) lie outside of each range, (A, N)."""
    return np.array([(areas < low) | (areas > high) for low, high in COCO_AREAS.values()])


def _rank(classes: np.ndarray) -> np.ndarray:
    """The place of every entry among those of its class."""
    order = np.argsort(classes, kind="stable")
    _, first, counts = np.unique(classes[order], return_index=True, return_counts=True)
    rank = np.empty(len(classes), int)
    rank[order] = np.arange(len(classes)) - np.repeat(first, counts)
    return rank


def _matches(number, truth, scores, classes, found, ignored, true_ignored) -> Matches:
    images = [np.full(len(labels), number) for labels in (scores, truth.classes)]
    rank = _rank(classes)
    return Matches(images[0], classes, scores, rank, found, ignored, images[1], truth.classes, true_ignored)
