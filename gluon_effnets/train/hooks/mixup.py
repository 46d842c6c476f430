"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899): images of a batch mixed with those of the reversed batch."""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Tuple

import mxnet as mx
import numpy as np

from ..durations import to_updates
from ..losses import soft_targets
from .base import Hook

__all__ = ["CutMix", "Mixup", "cut_box"]

# What is drawn beside the lam of mixup.
_BOX, _SWITCH = 1, 2


class _Places:
    """Tells the n-th batch of an update from the others, so that each has its own numbers, also after a resume."""

    def __init__(self, off_last: str):
        self._off_last, self._place = off_last, (-1, 0)
        self._end = 0

    def begin(self, state) -> None:
        self._end = state.total_updates - to_updates(self._off_last, state.updates_per_epoch, state.total_updates)

    def is_off(self, state) -> bool:
        """Whether the run is in its last part."""
        return state.update >= self._end

    def next(self, state) -> List[int]:
        """What the numbers of the next batch are drawn from."""
        micro = self._place[1] + 1 if self._place[0] == state.update else 0
        self._place = (state.update, micro)
        return [state.seed, state.update, micro, state.workers.rank]


class Mixup(Hook):
    """x' = lam x + (1 - lam) reversed(x), targets alike, with one lam ~ Beta(alpha, alpha) per batch and worker.

    `off_last` is the last part of the run without mixup, e.g. '20ep'. Beside `cutmix` a batch is mixed in one of the
    two ways.
    """

    def __init__(self, alpha: float = 0.2, off_last: str = "0ep"):
        if alpha <= 0:
            raise ValueError(f"hooks.mixup.alpha is {alpha}; it must be above 0")
        self.alpha, self.places = alpha, _Places(off_last)
        self._other: Optional[CutMix] = None

    def check(self, hooks):
        self._other = next((hook for hook in hooks if isinstance(hook, CutMix)), None)

    def train_begin(self, state):
        self.places.begin(state)

    def batch_begin(self, state, batch):
        if self.places.is_off(state):
            return None
        seed = self.places.next(state)
        if self._other is not None and self._other.takes(state, seed):
            return None
        lam = float(np.random.RandomState(seed).beta(self.alpha, self.alpha))
        target = soft_targets(batch.label, state.net.num_classes)
        mixed = [lam * x + (1 - lam) * mx.nd.reverse(x, axis=0) for x in (batch.data, target)]
        return dataclasses.replace(batch, data=mixed[0], label=mixed[1])


class CutMix(Hook):
    """A box of each image comes from the same place of the reversed batch; targets in the share of their pixels.

    Of a lam ~ Beta(alpha, alpha) per batch and worker the box has sqrt(1 - lam) times the sides of the image, around
    a pixel drawn evenly, and is cut off at the border.

    Args:
        alpha: Of the distribution.
        probability: Share of the batches that have a box.
        off_last: Last part of the run without boxes, e.g. '20ep'.
        switch: Where the recipe has `mixup`, too: share of the batches that are left to this hook.
    """

    def __init__(self, alpha: float = 1.0, probability: float = 1.0, off_last: str = "0ep", switch: float = 0.5):
        if alpha <= 0:
            raise ValueError(f"hooks.cutmix.alpha is {alpha}; it must be above 0")
        for name, value in (("probability", probability), ("switch", switch)):
            if not 0 <= value <= 1:
                raise ValueError(f"hooks.cutmix.{name} is {value}; it must be a probability, 0 to 1")
        self.alpha, self.probability, self.switch = alpha, probability, switch
        self.places = _Places(off_last)
        self._other: Optional[Mixup] = None

    def check(self, hooks):
        self._other = next((hook for hook in hooks if isinstance(hook, Mixup)), None)

    def train_begin(self, state):
        self.places.begin(state)

    def takes(self, state, seed: List[int]) -> bool:
        """Whether a batch is left to this hook where there is mixup, too; `seed` as `_Places` gives it."""
        if self.places.is_off(state):
            return False
        return bool(np.random.RandomState([*seed, _SWITCH]).rand() < self.switch)

    def batch_begin(self, state, batch):
        if self.places.is_off(state):
            return None
        seed = self.places.next(state)
        if self._other is not None and not self._other.places.is_off(state) and not self.takes(state, seed):
            return None
        random = np.random.RandomState([*seed, _BOX])
        if random.rand() >= self.probability:
            return None
        height, width = batch.data.shape[2:]
        top, bottom, left, right = cut_box(height, width, random.beta(self.alpha, self.alpha), random)
        data, share = batch.data.copy(), (bottom - top) * (right - left) / (height * width)
        if share:
            box = batch.data[:, :, top:bottom, left:right]
            data[:, :, top:bottom, left:right] = mx.nd.reverse(box, axis=0)
        target = soft_targets(batch.label, state.net.num_classes)
        target = (1 - share) * target + share * mx.nd.reverse(target, axis=0)
        return dataclasses.replace(batch, data=data, label=target)


def cut_box(height: int, width: int, lam: float, random: np.random.RandomState) -> Tuple[int, int, int, int]:
    """Return top, bottom, left and right of a box as the authors of CutMix draw it, in pixels; it may be empty.

    Args:
        height: Of the image.
        width: Of the image.
        lam: Share of the image that is left where the border cuts nothing off.
        random: Draws the middle of the box.
    """
    side = np.sqrt(1 - lam)
    ends = []
    for length in (height, width):
        middle, half = random.randint(length), int(length * side) // 2
        ends += [max(0, middle - half), min(length, middle + half)]
    return ends[0], ends[1], ends[2], ends[3]
