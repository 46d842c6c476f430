"""What the watchdog needs to know of a run."""

from __future__ import annotations

from .base import Hook

__all__ = ["Watched"]


class Watched(Hook):
    """Reports how far this worker is. Part of every run; evaluations report every batch themselves."""

    def train_begin(self, state):
        state.workers.progress("before its first update")

    def batch_begin(self, state, batch):
        state.workers.progress(f"in update {state.update + 1}")

    def before_update(self, state):
        state.workers.progress(f"exchanging gradients of update {state.update + 1}", exchange=True)

    def batch_end(self, state):
        state.workers.progress(f"after update {state.update}", update=True)

    def eval_end(self, state):
        state.workers.progress(f"after the evaluation of update {state.update}")

    def train_end(self, state):
        state.workers.progress("after its last update")
