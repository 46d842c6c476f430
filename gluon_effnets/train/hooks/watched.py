"""What the watchdog needs to know of a run, and the one place where a run ends on request."""

from __future__ import annotations

from typing import Callable

from ..signals import Stopped
from ..state import TrainState
from .base import Hook

__all__ = ["Watched"]


class Watched(Hook):
    """Reports progress, and ends the run between two updates when SIGINT or SIGTERM asked for it.

    Part of every run, as the first hook: nothing of the next update has happened when it calls `save(state)`.
    Raises Stopped on all workers after the same update.
    """

    def __init__(self, save: Callable[[TrainState], None]):
        self._save, self._begun = save, None

    def train_begin(self, state):
        state.workers.progress("before its first update")

    def batch_begin(self, state, batch):
        if state.update != self._begun:  # the first batch of an update
            self._begun = state.update
            signum = state.workers.must_stop(state.update)
            if signum:
                self._save(state)
                raise Stopped(signum, state.update)
        state.workers.progress(f"in update {state.update + 1}")

    def before_update(self, state):
        state.workers.progress(f"exchanging gradients of update {state.update + 1}", exchange=True)

    def batch_end(self, state):
        state.workers.progress(f"after update {state.update}", update=True)

    def eval_begin(self, state):
        state.workers.progress(f"evaluating after update {state.update}")

    def eval_end(self, state):
        state.workers.progress(f"after the evaluation after update {state.update}")

    def train_end(self, state):
        state.workers.pass_last_boundary()
        state.workers.progress("after its last update")
