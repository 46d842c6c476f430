"""Anchors: the boxes that a detector starts from, a few at every position of every map."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Sequence, Tuple, Union

import numpy as np

__all__ = ["AnchorLevel", "GridLevel", "anchor_boxes", "pyramid_levels"]


class AnchorLevel(NamedTuple):
    """The anchors of one map; all lengths are shares of the image's side.

    At every position there are a square of side `size`, one of side sqrt(size * next_size), and two boxes of the area
    of the first for every ratio: wide, then tall.

    Attributes:
        side: Positions per side of the map.
        step: From one position to the next; the first one is half a step from the border.
        size: Side of the first square.
        next_size: What the second square is between.
        ratios: Of width to height, above 1.
    """

    side: int
    step: float
    size: float
    next_size: float
    ratios: Tuple[float, ...] = (2, 3)

    @property
    def offset(self) -> float:
        """Of the first center from the border, in steps."""
        return 0.5

    @property
    def boxes_per_position(self) -> int:
        """Anchors at every position."""
        return 2 + 2 * len(self.ratios)

    def shapes(self) -> List[Tuple[float, float]]:
        """Widths and heights of the anchors of a position."""
        second = math.sqrt(self.size * self.next_size)
        found = [(self.size, self.size), (second, second)]
        for ratio in self.ratios:
            long, short = self.size * math.sqrt(ratio), self.size / math.sqrt(ratio)
            found += [(long, short), (short, long)]
        return found


class GridLevel(NamedTuple):
    """The same boxes at every position of a map; all lengths are shares of the image's side.

    Attributes:
        side: Positions per side of the map.
        step: From one position to the next.
        boxes: Width and height of each.
        offset: Of the first center from the border, in steps.
    """

    side: int
    step: float
    boxes: Tuple[Tuple[float, float], ...]
    offset: float = 0.0

    @property
    def boxes_per_position(self) -> int:
        """Anchors at every position."""
        return len(self.boxes)

    def shapes(self) -> Sequence[Tuple[float, float]]:
        """Widths and heights of the anchors of a position."""
        return self.boxes


def pyramid_levels(
    image_size: int, strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float] = (0.5, 1, 2)
) -> List[GridLevel]:
    """Return the anchors of a feature pyramid, as RetinaNet and mmdetection have them.

    At every position of a map of stride s, centers at multiples of s, there is for every ratio of height to width, and
    then for every scale c, a box of the area (c s) ** 2. Nothing is rounded.

    Args:
        image_size: Side of the image, in pixels, a multiple of every stride.
        strides: Of the maps, in pixels.
        scales: Sides of the square boxes, in strides.
        ratios: Of height to width.
    """
    levels = []
    for stride in strides:
        sides = [scale * stride / image_size for scale in scales]
        boxes = tuple((side / math.sqrt(ratio), side * math.sqrt(ratio)) for ratio in ratios for side in sides)
        levels.append(GridLevel(image_size // stride, stride / image_size, boxes))
    return levels


def anchor_boxes(levels: Sequence[Union[AnchorLevel, GridLevel]], cut: bool = True) -> np.ndarray:
    """Return the anchors of all levels, (P, 4): center x, center y, width, height, in shares of the image.

    A box may reach over the border of the image. Levels come one after the other, their positions row by row, and the
    boxes of a position in the order of `shapes`.

    Args:
        levels: The levels.
        cut: Whether all four numbers are cut to 0..1, as SSD does, so that no box is larger than the image.

    Source: SSD, arXiv 1512.02325, section 2.2; numbers and order as torchvision and lufficc/SSD have them.
    """
    found = []
    for level in levels:
        centers = (np.arange(level.side) + level.offset) * level.step
        rows, columns = np.meshgrid(centers, centers, indexing="ij")
        shapes = np.array(level.shapes())
        boxes = np.empty((level.side, level.side, len(shapes), 4))
        boxes[..., 0], boxes[..., 1] = columns[..., None], rows[..., None]
        boxes[..., 2:] = shapes
        found.append(boxes.reshape(-1, 4))
    return np.clip(np.concatenate(found), 0, 1) if cut else np.concatenate(found)
