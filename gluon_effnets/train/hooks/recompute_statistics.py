"""RecomputeStatistics: exact BN statistics of the final weights instead of running averages over changing ones."""

from __future__ import annotations

import itertools
from typing import Iterator

import mxnet as mx

from ...progress import progress_bar
from ..batch_statistics import batch_statistics
from ..durations import to_updates
from ..state import TrainState
from .base import Hook

__all__ = ["RecomputeStatistics"]


class RecomputeStatistics(Hook):
    """After the last update, BN's means and variances become averages over `duration` more of training batches.

    The batches are those that would come next, of all workers, before other hooks change them. The final evaluation,
    checkpoint and export have the new statistics; `statistics_images` among the scores is the number of images in them.
    An average of weights (`ema`) keeps its own averages of the statistics.
    """

    def __init__(self, duration: str = "1ep"):
        self.duration = duration
        self._images = 0

    def train_begin(self, state):
        updates = to_updates(self.duration, state.updates_per_epoch, state.total_updates)
        if updates < 1:
            raise ValueError(f"hooks.recompute_statistics.duration is {self.duration}; it must have at least one batch")
        self._batches = updates * state.accumulate

    def eval_begin(self, state):
        if state.update < state.total_updates:
            return
        params = state.net._collect_params_with_prefix()
        # Those of this worker. `AverageStatistics`, after the hooks of a recipe, makes them the average over all.
        for name, value in batch_statistics(state.net, _next_batches(state, self._batches)).items():
            params[name].set_data(value)
        self._images = self._batches * state.data.settings.batch_size * state.workers.size

    def eval_end(self, state):
        if self._images:
            state.scores["statistics_images"] = self._images


def _next_batches(state: TrainState, number: int) -> Iterator[mx.nd.NDArray]:
    """Images of this worker, from the beginning of the first epoch that has not begun."""
    first = -(-state.update // state.updates_per_epoch)
    epochs = itertools.chain.from_iterable(state.data.train_batches(epoch) for epoch in itertools.count(first))
    bar = {"desc": "BN statistics", "unit": " batches", "delay": 2, "total": number}
    for batch in progress_bar(itertools.islice(epochs, number), shown=state.workers.is_writer, **bar):
        state.workers.progress("recomputing BN statistics")
        yield batch.data.as_in_context(state.ctx)
