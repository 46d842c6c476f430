"""What the watchdog needs to know of a run."""

from __future__ import annotations

from .base import Hook

__all__ = ["Watched"]


class Watched(Hook):
    """Reports how far this worker is. Part of every run; evaluations report every batch themselves.

    Updates are short but for the first of an epoch: the reader of the data begins anew, and before the first of all
    graphs are compiled.
    """

    def __init__(self):
        self._long = -1  # the update, by the number of those before it, that may last

    def train_begin(self, state):
        state.workers.progress("before its first update")

    def epoch_begin(self, state):
        self._long = state.update
        state.workers.progress(f"at the beginning of epoch {state.epoch + 1}")

    def batch_begin(self, state, batch):
        state.workers.progress(f"in update {state.update + 1}", is_short=self._is_short(state))

    def before_update(self, state):
        place = f"exchanging gradients of update {state.update + 1}"
        state.workers.progress(place, exchange=True, is_short=self._is_short(state))

    def batch_end(self, state):
        state.workers.progress(f"after update {state.update}", is_short=self._is_short(state))

    def eval_end(self, state):
        state.workers.progress(f"after the evaluation of update {state.update}")

    def train_end(self, state):
        state.workers.progress("after its last update")

    def _is_short(self, state) -> bool:
        return state.update > self._long
