"""Targets: which class and which offsets every anchor shall answer with, found for a whole batch on its device."""

from __future__ import annotations

from typing import NamedTuple, Tuple

import mxnet as mx
from mxnet import autograd

from .boxes import VARIANCES, Variances, encode

__all__ = ["Matching"]

_ROUNDING = 1e-4  # of the overlap of a small box


class Matching(NamedTuple):
    """How the anchors are shared out among the boxes of an image.

    Every box gets the anchor that overlaps it most, the later of two boxes that want the same one; a box that no
    anchor overlaps gets none. All other anchors take the box that they overlap most, if that is enough.

    Attributes:
        at_least: Overlap (intersection over union) from which an anchor takes a box.
        below: Overlap below which it is background; anchors in between are ignored.
        all_best: Whether a box gets all anchors that overlap it as much as the best one, but for rounding; else the
            first of them.

    Source: SSD, arXiv 1512.02325, section 2.2, as lufficc/SSD (`assign_priors`) and torchvision (`SSDMatcher`) have it.
    RetinaNet, arXiv 1708.02002, section 4: `Matching(0.5, 0.4, all_best=True)`, as mmdetection has it.

    Example:
        >>> classes, offsets = Matching()(net.anchors, boxes, label)
    """

    at_least: float = 0.5
    below: float = 0.5
    all_best: bool = False

    def __call__(self, anchors, boxes, label, variances: Variances = VARIANCES) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return the targets of a batch.

        Args:
            anchors: (P, 4): center x, center y, width, height, in shares of the image.
            boxes: (N, M, 4): x and y of two corners in shares of the image; any numbers where there is no box.
            label: (N, M): classes from 0; -1 where there is no box.
            variances: Units of the offsets, see `decode`.

        Returns:
            Classes (N, P): 0 for background, class + 1 for a box, -1 for an anchor to be ignored; and offsets (N, P, 4)
            from the anchors to their boxes, 0 for those that have none.
        """
        with autograd.pause():
            overlaps = mx.nd.contrib.box_iou(boxes, _corners(anchors), format="corner")
            # Below every overlap, so that a place without a box is nobody's best.
            overlaps = mx.nd.where(
                mx.nd.broadcast_like(label.expand_dims(2) >= 0, overlaps), overlaps, -_ones(overlaps)
            )
            own, claim = mx.nd.argmax(overlaps, axis=1), self._claims(overlaps)
            best = mx.nd.max(overlaps, axis=1)
            takes = mx.nd.broadcast_logical_or(best >= self.at_least, claim > 0)
            place = _places(mx.nd.where(claim > 0, claim - 1, own))
            classes = mx.nd.where(takes, mx.nd.gather_nd(label, place) + 1, (best < self.below) - 1)
            offsets = encode(mx.nd.gather_nd(boxes, place), anchors, variances)
            return classes, mx.nd.where(mx.nd.broadcast_like(takes.expand_dims(2), offsets), offsets, _zeros(offsets))

    def _claims(self, overlaps) -> mx.nd.NDArray:
        """(N, P): 1 + the place of the box that gets the anchor whatever their overlap is; 0 where there is none."""
        best = mx.nd.max(overlaps, axis=2, keepdims=True)
        if self.all_best:
            claims = mx.nd.broadcast_greater_equal(overlaps, best * (1 - _ROUNDING))
        else:
            first = mx.nd.argmax(overlaps, axis=2, keepdims=True)
            anchors = mx.nd.contrib.arange_like(overlaps, axis=2).reshape((1, 1, -1))
            claims = mx.nd.broadcast_equal(first, anchors)
        numbers = mx.nd.contrib.arange_like(overlaps, axis=1, start=1).reshape((1, -1, 1))
        return mx.nd.max(mx.nd.broadcast_mul(claims, numbers * (best > 0)), axis=1)


def _corners(anchors) -> mx.nd.NDArray:
    half = anchors[:, 2:] / 2
    return mx.nd.concat(anchors[:, :2] - half, anchors[:, :2] + half, dim=1)


def _places(chosen) -> mx.nd.NDArray:
    """Indices (2, N, P) of a batch, for `gather_nd`, from places (N, P) within an image."""
    images = mx.nd.contrib.arange_like(chosen, axis=0).expand_dims(1)
    return mx.nd.stack(mx.nd.broadcast_like(images, chosen), chosen, axis=0)


_ones, _zeros = mx.nd.ones_like, mx.nd.zeros_like
