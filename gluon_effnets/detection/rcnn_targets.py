"""What the two stages of Faster R-CNN learn from: anchors and proposals that are drawn, and their classes and boxes."""

from __future__ import annotations

from typing import NamedTuple

import mxnet as mx
from mxnet import autograd

from .boxes import VARIANCES, Variances, encode, rows_at

__all__ = ["Drawn", "Sampling", "draw", "draw_regions"]


class Sampling(NamedTuple):
    """How many are drawn of an image, by chance.

    Attributes:
        number: In all.
        positive: The largest share of those that have a box; background fills the rest.
    """

    number: int
    positive: float


class Drawn(NamedTuple):
    """Regions of a batch that were drawn, and what they shall answer.

    Attributes:
        regions: (N, S, 4): x and y of two corners in shares of the image.
        classes: (N, S): 0 for background, class + 1 for a box, -1 for a place that nothing fills.
        offsets: (N, S, 4) from the regions to their boxes.
    """

    regions: mx.nd.NDArray
    classes: mx.nd.NDArray
    offsets: mx.nd.NDArray


def draw(classes, sampling: Sampling):
    """Return which of N rows of anchors or regions are drawn, (N, P): 1 or 0.

    Args:
        classes: (N, P): above 0 for those that have a box, 0 for background, -1 for those that are out of the question.
        sampling: How many.
    """
    with autograd.pause():
        chance = mx.nd.random.uniform(shape=classes.shape, ctx=classes.context)
        positive, background = classes > 0, classes == 0
        most = int(round(sampling.number * sampling.positive))
        drawn = positive * (_rank(positive * (1 + chance)) < most)
        left = sampling.number - drawn.sum(axis=1, keepdims=True)
        return drawn + background * mx.nd.broadcast_lesser(_rank(background * (1 + chance)), left)


def _rank(keys) -> mx.nd.NDArray:
    """The place of every number in its row, by falling size."""
    return mx.nd.argsort(mx.nd.argsort(keys, axis=1, is_ascend=False), axis=1)


def draw_regions(
    regions, valid, boxes, label, sampling: Sampling, at_least: float = 0.5, variances: Variances = VARIANCES
) -> Drawn:
    """Draw from proposals and the boxes themselves those that the second stage learns from.

    Args:
        regions: Proposals (N, R, 4), x and y of two corners in shares of the image.
        valid: (N, R): whether there is a proposal.
        boxes: (N, M, 4) in the same unit; any numbers where there is no box.
        label: (N, M): classes from 0; -1 where there is no box.
        sampling: How many.
        at_least: Overlap (intersection over union) from which a region has a box; all others are background.
        variances: Units of the offsets.
    """
    with autograd.pause():
        regions = mx.nd.concat(regions, boxes, dim=1)
        valid = mx.nd.concat(valid, label >= 0, dim=1)
        # Every image has boxes and regions of its own.
        overlaps = mx.nd.stack(*(mx.nd.contrib.box_iou(*pair) for pair in zip(regions, boxes)), axis=0)
        real = mx.nd.broadcast_like(label.expand_dims(1) >= 0, overlaps)
        overlaps = mx.nd.where(real, overlaps, mx.nd.zeros_like(overlaps))
        place, most = overlaps.argmax(axis=2), overlaps.max(axis=2)
        own = rows_at(mx.nd, mx.nd.concat(boxes, label.expand_dims(2), dim=2), place)
        classes = mx.nd.where(valid, (own[:, :, 4] + 1) * (most >= at_least), -mx.nd.ones_like(most))
        drawn = draw(classes, sampling)
        order = mx.nd.topk(drawn, axis=1, k=min(sampling.number, drawn.shape[1]))
        rows = mx.nd.concat(drawn.expand_dims(2), classes.expand_dims(2), regions, own[:, :, :4], dim=2)
        rows = rows_at(mx.nd, rows, order)
        filled, classes, regions, boxes = rows[:, :, 0], rows[:, :, 1], rows[:, :, 2:6], rows[:, :, 6:]
        classes = mx.nd.where(filled, classes, -mx.nd.ones_like(classes))
        sides = mx.nd.concat((regions[:, :, 2:] + regions[:, :, :2]) / 2, regions[:, :, 2:] - regions[:, :, :2], dim=2)
        learned = mx.nd.broadcast_like((classes > 0).expand_dims(2), regions)
        return Drawn(regions, classes, mx.nd.where(learned, encode(boxes, sides, variances), mx.nd.zeros_like(regions)))
