"""Anchors: the boxes that a detector starts from, a few at every position of every map."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

__all__ = ["AnchorLevel", "anchor_boxes"]


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


def anchor_boxes(levels: Sequence[AnchorLevel]) -> np.ndarray:
    """Return the anchors of all levels, (P, 4): center x, center y, width, height, cut to 0..1.

    A box may reach over the border of the image, but is never larger than it. Levels come one after the other, their
    positions row by row, and the boxes of a position in the order of `AnchorLevel.shapes`.

    Source: SSD, arXiv 1512.02325, section 2.2; numbers and order as torchvision and lufficc/SSD have them.
    """
    found = []
    for level in levels:
        centers = (np.arange(level.side) + 0.5) * level.step
        rows, columns = np.meshgrid(centers, centers, indexing="ij")
        shapes = np.array(level.shapes())
        boxes = np.empty((level.side, level.side, len(shapes), 4))
        boxes[..., 0], boxes[..., 1] = columns[..., None], rows[..., None]
        boxes[..., 2:] = shapes
        found.append(boxes.reshape(-1, 4))
    return np.clip(np.concatenate(found), 0, 1)
