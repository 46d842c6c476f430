"""How far boxes overlap."""

from __future__ import annotations

import numpy as np

from ...runtime.detections import common_areas, endless

__all__ = ["box_areas", "overlaps"]


@endless
def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes (N, 4), 0 for those whose corners are in the wrong order."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


@endless
def overlaps(boxes: np.ndarray, others: np.ndarray, crowd=None) -> np.ndarray:
    """Return the intersection over union of every pair of boxes.

    Args:
        boxes: (D, 4), x and y of two corners, the second exclusive. VOC's development kit adds 1 to every side of
            boxes whose second corner is inclusive; that is the side of a box whose second corner is exclusive.
        others: (G, 4).
        crowd: (G,), true where `others` is a crowd: its overlap is the share of the box of `boxes` that lies in it.

    Returns:
        (D, G), 0 to 1.
    """
    common, own = common_areas(boxes, others), box_areas(boxes)[:, None]
    union = own + box_areas(others)[None] - common
    if crowd is not None:
        union = np.where(np.asarray(crowd, bool)[None], own, union)
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
