"""Classification: soft cross-entropy on smoothed, possibly mixed, targets."""

from __future__ import annotations

from mxnet import autograd

from ..losses import soft_cross_entropy, soft_targets
from ..metrics import classification_sums
from .base import Task

__all__ = ["Classification"]


class Classification(Task):
    """One forward, one backward.

    Args:
        label_smoothing: Share of the target that goes to all classes alike.
    """

    def __init__(self, label_smoothing: float = 0.0):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must be in [0, 1)")
        self.label_smoothing = label_smoothing

    def step(self, state, batch, backward):
        target = soft_targets(batch.label, state.net.num_classes, self.label_smoothing)
        with autograd.record():
            loss = soft_cross_entropy(state.net(batch.data), target)
        backward(loss)
        return {"loss": loss}

    def evaluate(self, state, batch):
        return classification_sums(state.net(batch.data), batch.label, batch.num_valid)
