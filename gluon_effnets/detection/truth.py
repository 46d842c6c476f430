"""What is on an image, by its annotation: what detections are held against."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

import numpy as np

__all__ = ["Truth"]


class Truth(NamedTuple):
    """The annotated objects of one image.

    Attributes:
        image: Name or id of the image, unique in its source.
        size: Height and width of the original, in pixels.
        boxes: (M, 4), x and y of two corners in pixels of the original, from 0, the second corner exclusive.
            VOC's ``xmin`` counts from 1 and its ``xmax`` is inclusive: they become ``xmin - 1`` and ``xmax``.
        classes: (M,), from 0, without the background.
        difficult: (M,), true for an object that counts for nothing, found or not: VOC's ``difficult``, COCO's
            ``iscrowd``.
        areas: (M,), in square pixels: COCO's areas of segments; None stands for the areas of the boxes.
    """

    image: str
    size: Tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray
    areas: Optional[np.ndarray] = None
