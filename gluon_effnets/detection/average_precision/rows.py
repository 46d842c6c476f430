"""The objects and detections of images as rows of numbers, which workers can hand to each other."""

from __future__ import annotations

from typing import Iterator, List, Tuple

import numpy as np

from ..truth import Truth

__all__ = ["image_rows", "images_of_rows"]

# The first number of a row says what it is. The rows of an image follow its first one.
_IMAGE, _NAME, _OBJECT, _DETECTION = range(4)
_WIDTH = 8
_BYTES = 6  # of a name in one number: a float64 holds integers of 53 bits


def image_rows(seen) -> np.ndarray:
    """Return one image, a `Seen`, as rows (R, 8) of float64."""
    truth, boxes, scores, classes = seen
    name = _numbers(truth.image)
    rows = np.zeros((1 + len(name) + len(truth.boxes) + len(boxes), _WIDTH))
    rows[0, :4] = (_IMAGE, *truth.size, truth.areas is not None)
    ends = np.cumsum([1, len(name), len(truth.boxes)])
    rows[1 : ends[1], 0], rows[1 : ends[1], 1:] = _NAME, name
    objects, detections = rows[ends[1] : ends[2]], rows[ends[2] :]
    areas = 0 if truth.areas is None else truth.areas
    for part, kind, columns in (
        (objects, _OBJECT, (truth.classes, truth.boxes, truth.difficult, areas)),
        (detections, _DETECTION, (classes, boxes, scores, 0)),
    ):
        part[:, 0], (part[:, 1], part[:, 2:6], part[:, 6], part[:, 7]) = kind, columns
    return rows


def images_of_rows(rows: np.ndarray) -> Iterator[Tuple[Truth, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the images whose `image_rows`, one after the other, these are: truth, boxes, scores and classes."""
    rows = np.asarray(rows, np.float64).reshape(-1, _WIDTH)
    begins: List[int] = np.flatnonzero(rows[:, 0] == _IMAGE).tolist()
    for begin, end in zip(begins, [*begins[1:], len(rows)]):
        height, width, has_areas = rows[begin, 1:4]
        kinds, own = rows[begin:end, 0], rows[begin:end]
        objects, found = own[kinds == _OBJECT], own[kinds == _DETECTION]
        truth = Truth(
            _text(own[kinds == _NAME, 1:]),
            (int(height), int(width)),
            objects[:, 2:6],
            objects[:, 1].astype(int),
            objects[:, 6] > 0,
            objects[:, 7] if has_areas else None,
        )
        yield truth, found[:, 2:6], found[:, 6], found[:, 1].astype(int)


def _numbers(text: str) -> np.ndarray:
    """A text as rows of 7 numbers."""
    content = text.encode("utf-8", "surrogateescape")
    per_row = _BYTES * (_WIDTH - 1)
    content = content.ljust(-(-len(content) // per_row) * per_row, b"\0")
    digits = np.frombuffer(content, np.uint8).reshape(-1, _WIDTH - 1, _BYTES)
    return digits @ (256.0 ** np.arange(_BYTES))


def _text(numbers: np.ndarray) -> str:
    digits = numbers.astype(np.int64)[..., None] >> (8 * np.arange(_BYTES)) & 255
    return digits.astype(np.uint8).tobytes().rstrip(b"\0").decode("utf-8", "surrogateescape")
