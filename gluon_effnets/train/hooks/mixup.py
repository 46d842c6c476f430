"""Mixup (arXiv 1710.09412): images and targets of a batch blended with those of the reversed batch."""

from __future__ import annotations

import dataclasses

import mxnet as mx
import numpy as np

from ..durations import to_updates
from ..losses import soft_targets
from .base import Hook

__all__ = ["Mixup"]


class Mixup(Hook):
    """x' = lam x + (1 - lam) reversed(x), targets alike, with one lam ~ Beta(alpha, alpha) per batch and worker.

    `off_last` is the last part of the run without mixup, e.g. '20ep'.
    """

    def __init__(self, alpha: float = 0.2, off_last: str = "0ep"):
        if alpha <= 0:
            raise ValueError(f"hooks.mixup.alpha is {alpha}; it must be above 0")
        self.alpha, self.off_last = alpha, off_last
        self._place = None

    def train_begin(self, state):
        self._end = state.total_updates - to_updates(self.off_last, state.updates_per_epoch, state.total_updates)

    def batch_begin(self, state, batch):
        if state.update >= self._end:
            return None
        # The n-th batch of an update is told from the others, so that each has its own lam, also after a resume.
        micro = self._place[1] + 1 if self._place and self._place[0] == state.update else 0
        self._place = (state.update, micro)
        seed = [state.seed, state.update, micro, state.workers.rank]
        lam = float(np.random.RandomState(seed).beta(self.alpha, self.alpha))
        target = soft_targets(batch.label, state.net.num_classes)
        mixed = [lam * x + (1 - lam) * mx.nd.reverse(x, axis=0) for x in (batch.data, target)]
        return dataclasses.replace(batch, data=mixed[0], label=mixed[1])
