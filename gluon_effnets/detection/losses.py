"""Losses of detectors that answer for anchors: what the answers lack, in parts that add up over batches and workers."""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict, NamedTuple

import mxnet as mx
from mxnet import autograd

__all__ = ["Criterion", "Focal", "Losses", "MultiBox", "smooth_l1"]


class Losses(NamedTuple):
    """The parts of a loss over a batch: the loss is the sum of `sums[part] / max(1, counts[part])`.

    Sums and counts of several batches, or workers, are added before the division, so that the loss of a part of the
    images weighs as much as it would among all of them.

    Attributes:
        sums: {part: (1,)}, differentiable: "class" and "box", and what else a detector has.
        counts: {part: (1,)}: by how many a part is divided, such as anchors that have a box.
    """

    sums: Dict[str, mx.nd.NDArray]
    counts: Dict[str, mx.nd.NDArray]


# Logits (N, P, classes + 1), offsets (N, P, 4), and the targets of both, as of `Matching`.
Criterion = Callable[[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray], Losses]


@dataclasses.dataclass(frozen=True)
class MultiBox:
    """Cross-entropy of anchors with a box and of the hardest others, smooth L1 of offsets, both by anchors with a box.

    The hardest are, for every image by itself, the background anchors of the largest loss. An image without a box has
    none, and adds nothing.

    Attributes:
        negatives: So many of them for each anchor with a box.
        beta: See `smooth_l1`.

    Source: SSD, arXiv 1512.02325, section 2.2, as lufficc/SSD and torchvision have it.
    """

    negatives: float = 3.0
    beta: float = 1.0

    def __call__(self, logits, offsets, classes, wanted) -> Losses:
        logits, positive = logits.astype("float32"), classes > 0
        entropy = -mx.nd.pick(mx.nd.log_softmax(logits, axis=-1), mx.nd.maximum(classes, 0), axis=-1)
        with autograd.pause():
            hardness = mx.nd.where(classes == 0, entropy, mx.nd.full(entropy.shape, -1.0, ctx=entropy.context))
            order = mx.nd.argsort(hardness, axis=1, is_ascend=False)
            rank = mx.nd.argsort(order, axis=1)
            most = self.negatives * positive.sum(axis=1, keepdims=True)
            counted = positive + (classes == 0) * mx.nd.broadcast_lesser(rank, most)
        return _losses(counted * entropy, positive, offsets, wanted, self.beta)


@dataclasses.dataclass(frozen=True)
class Focal:
    """Focal loss of the sigmoid of every class, smooth L1 of offsets, both by anchors with a box.

    Of anchors without a box all but the ignored ones count.

    Attributes:
        alpha: Weight of the class that is there; all others have 1 - alpha.
        gamma: How little what is known already counts.
        weight: Of the loss of the classes, beside that of the offsets.
        beta: See `smooth_l1`.
        background: Whether the first logits, the background's, are learned like one more class that is never there;
            else they are left out.

    Source: arXiv 1708.02002, section 3.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    weight: float = 1.0
    beta: float = 1.0
    background: bool = True

    def __call__(self, logits, offsets, classes, wanted) -> Losses:
        logits, positive = logits.astype("float32"), classes > 0
        first = 0 if self.background else 1
        logits = mx.nd.slice_axis(logits, axis=2, begin=first, end=None)
        # Of background, and of what is ignored, there is no class.
        there = mx.nd.one_hot(mx.nd.where(positive, classes - first, -mx.nd.ones_like(classes)), logits.shape[2])
        # Of the answer to a class: the logit of being right.
        right = logits * (2 * there - 1)
        entropy = mx.nd.relu(-right) + mx.nd.Activation(-mx.nd.abs(right), act_type="softrelu")
        scale = self.alpha * there + (1 - self.alpha) * (1 - there)
        focal = mx.nd.sum(scale * mx.nd.sigmoid(-right) ** self.gamma * entropy, axis=2)
        return _losses(self.weight * focal * (classes >= 0), positive, offsets, wanted, self.beta)


def _losses(of_classes, positive, offsets, wanted, beta: float) -> Losses:
    of_boxes = mx.nd.broadcast_mul(smooth_l1(offsets.astype("float32") - wanted, beta), positive.expand_dims(2))
    count = positive.sum()
    return Losses({"class": of_classes.sum(), "box": of_boxes.sum()}, {"class": count, "box": count})


def smooth_l1(x, beta: float = 1.0):
    """x^2 / (2 beta) for |x| < beta, else |x| - beta / 2; with beta 0 |x| alone."""
    return mx.nd.smooth_l1(x, scalar=beta**-0.5) if beta else mx.nd.abs(x)
