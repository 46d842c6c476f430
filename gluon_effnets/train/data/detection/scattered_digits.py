"""The scattered_digits source: scikit-learn's handwritten digits, several on an image, for detectors without files."""

from __future__ import annotations

from dataclasses import replace
from typing import List, NamedTuple, Tuple

import numpy as np

from ...._requirements import optional_import
from ....files.text import shown
from ..arrays import held_out_digits
from ..augment import cv2_module
from ..base import Shard
from ..sampling import SCATTER, private_random
from .annotations import Annotations
from .data import DetectionData

__all__ = ["open_scattered_digits"]

_IMAGES, _EVALUATED = 1200, 4  # of the training, and how many times fewer are evaluated
_MOST_DIGITS = 6  # of an image
_SMALLEST, _LARGEST = 0.2, 0.5  # sides of a digit, in shares of the image
_TRIALS, _LARGEST_OVERLAP = 20, 0.1
_SCRIBBLES = 2
_BACKGROUND, _BRIGHT = (20, 120), (160, 255)  # each of the three colors
_NOISE = 8  # standard deviation of a pixel
_INK = 0.35  # of a pixel that a box holds
_CELLS = 4  # of the background, along a side


class _Digit(NamedTuple):
    """Where which digit lies: its number among those of scikit-learn, and the square it is drawn into, in pixels."""

    number: int
    left: int
    top: int
    side: int


class ScatteredDigits:
    """Images that are drawn when they are read, each from a generator of its own.

    Args:
        glyphs: (n, 8, 8), the ink of the digits, 0 to 1.
        kinds: (n,), which digits they are.
        count: Number of the images.
        side: Of the images, in pixels.
        part: "training" or "evaluation".

    Attributes:
        annotations: Of the images.
        labels: Of every image an array with the classes of its boxes.
    """

    def __init__(self, glyphs: np.ndarray, kinds: np.ndarray, count: int, side: int, part: str):
        self._glyphs, self._kinds, self._side, self._part = glyphs, kinds, side, part
        drawn = [self._places(position) for position in range(count)]
        boxes = [self._box(digit) for digits in drawn for digit in digits]
        classes = np.array([kinds[digit.number] for digits in drawn for digit in digits], np.int64)
        firsts = np.cumsum([0, *map(len, drawn)])
        images = [self.where(position) for position in range(count)]
        sizes = np.full((count, 2), side, np.int64)
        self.annotations = Annotations(
            images, sizes, firsts, np.array(boxes, np.float64), classes, np.zeros(len(boxes), bool)
        )
        self.labels = self.annotations.labels

    def where(self, position: int) -> str:
        """How messages name an image."""
        return f"{self._part} image {position} of scattered_digits"

    def read(self, position: int) -> np.ndarray:
        """One image, (side, side, 3) uint8 RGB."""
        cv2, side = cv2_module(), self._side
        random = self._random(position, 1)
        cells = random.uniform(*_BACKGROUND, (_CELLS, _CELLS, 3)).astype(np.float32)
        image = cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC)
        for _ in range(random.randint(_SCRIBBLES + 1)):
            points = (random.uniform(0, side, (4, 1, 2))).astype(np.int32)
            color, thickness = random.uniform(*_BACKGROUND, 3).tolist(), side * random.uniform(0.005, 0.02)
            cv2.polylines(image, [points], False, color, max(1, round(thickness)), cv2.LINE_AA)
        for digit in self._places(position):
            ink = self._ink(digit)
            window = image[digit.top : digit.top + digit.side, digit.left : digit.left + digit.side]
            color = random.uniform(*_BRIGHT, 3)
            cover = (ink * random.uniform(0.7, 1))[..., np.newaxis].astype(np.float32)
            window += (color.astype(np.float32) - window) * cover
        image += random.standard_normal(image.shape).astype(np.float32) * random.uniform(0, 2 * _NOISE)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    def _random(self, position: int, stream: int) -> np.random.RandomState:
        return private_random(SCATTER, ["training", "evaluation"].index(self._part), position, stream)

    def _places(self, position: int) -> List[_Digit]:
        """The digits of an image, which hardly cover each other."""
        random, side = self._random(position, 0), self._side
        digits: List[_Digit] = []
        for _ in range(random.randint(1, _MOST_DIGITS + 1)):
            number = random.randint(len(self._glyphs))
            for _ in range(_TRIALS):
                length = max(8, round(side * np.exp(random.uniform(np.log(_SMALLEST), np.log(_LARGEST)))))
                left, top = random.randint(side - length + 1, size=2).tolist()
                digit = _Digit(number, left, top, length)
                if all(_overlap(digit, other) <= _LARGEST_OVERLAP for other in digits):
                    digits.append(digit)
                    break
        return digits

    def _ink(self, digit: _Digit) -> np.ndarray:
        """How much a digit covers of the pixels of its square, 0 to 1."""
        cv2 = cv2_module()
        size = (digit.side, digit.side)
        return np.clip(cv2.resize(self._glyphs[digit.number], size, interpolation=cv2.INTER_CUBIC), 0, 1)

    def _box(self, digit: _Digit) -> Tuple[int, int, int, int]:
        inked = self._ink(digit) >= _INK
        (rows,), (columns,) = inked.any(axis=1).nonzero(), inked.any(axis=0).nonzero()
        return (
            digit.left + int(columns[0]),
            digit.top + int(rows[0]),
            digit.left + int(columns[-1]) + 1,
            digit.top + int(rows[-1]) + 1,
        )


def _overlap(one: _Digit, other: _Digit) -> float:
    """How much of the smaller square lies within the other one."""
    sides = (min(one[place] + one.side, other[place] + other.side) - max(one[place], other[place]) for place in (1, 2))
    across, down = (max(0, side) for side in sides)
    return across * down / min(one.side, other.side) ** 2


def open_scattered_digits(shard: Shard, argument: str) -> DetectionData:
    """One to six bright digits of different size and color on each image, on a dark one with scribbles and noise.

    The images are the same for every seed. Digits of the evaluation are never those of the training. None is mirrored,
    as it would be another digit.

    Args:
        shard: The part that this worker reads.
        argument: Number of training images, 1,200 if empty; a quarter as many are evaluated.

    Raises:
        ValueError: The argument is no number.
        ImportError: scikit-learn is missing.
    """
    if argument and not (argument.isdecimal() and len(argument) <= 7 and int(argument)):
        raise ValueError(
            f"scattered_digits:{shown(argument)} is not understood; write scattered_digits:N, N the number of images."
        )
    datasets = optional_import("sklearn.datasets", extra="train", why="load the handwritten digits")
    bunch = datasets.load_digits()
    glyphs, kinds = (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)
    held_out = held_out_digits(kinds)
    shard = replace(shard, settings=replace(shard.settings, mirror=False))
    count, side = int(argument or _IMAGES), shard.settings.image_size
    train, val = (
        ScatteredDigits(glyphs[chosen], kinds[chosen], number, side, part)
        for chosen, number, part in (
            (~held_out, count, "training"),
            (held_out, max(count // _EVALUATED, 1), "evaluation"),
        )
    )
    return DetectionData(shard, train, val, [str(digit) for digit in range(10)])
