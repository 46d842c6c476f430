"""The end of a run whose updates are all skipped."""

from __future__ import annotations

from ..not_finite import NotFinite
from .base import Hook

__all__ = ["SkippedUpdates"]


class SkippedUpdates(Hook):
    """Stops a run of mixed precision after `most` skipped updates in a row (0: never). Part of every run.

    A few are nothing special: the loss scale is then found, or rises too far. But every one of them halves it, so that
    soon no scale explains gradients that are still not finite.
    """

    def __init__(self, most: int):
        self.most = most

    def batch_end(self, state):
        scaler = state.precision.scaler
        # All workers see it at once; the one that knows the checkpoints ends them.
        if scaler and 0 < self.most <= scaler.skipped_in_a_row and state.workers.is_writer:
            raise NotFinite(
                f"the last {scaler.skipped_in_a_row} updates, up to number {state.update}, were skipped: their "
                f"gradients are not finite, down to a loss scale of {scaler.loss_scale:g}",
                state,
            )
