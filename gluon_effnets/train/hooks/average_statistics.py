"""BN statistics averaged over the workers before they are used."""

from __future__ import annotations

from ..state import TrainState
from .base import Hook

__all__ = ["AverageStatistics", "average_statistics"]


class AverageStatistics(Hook):
    """Each worker's running means and variances see its own shard only; evaluations take their mean.

    Part of every distributed run; a checkpoint takes their mean itself.
    """

    def eval_begin(self, state):
        average_statistics(state)


def average_statistics(state: TrainState) -> None:
    """Replace what is not trained (BN's running means and variances) by its mean over the workers."""
    params = state.net._collect_params_with_prefix()
    arrays = [params[name].data() for name in sorted(params) if params[name].grad_req == "null"]
    state.workers.average_(arrays, "statistics")
