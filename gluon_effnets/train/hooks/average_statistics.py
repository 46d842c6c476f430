"""BN statistics averaged over the workers before they are used."""

from __future__ import annotations

from typing import Collection, Dict

from mxnet.gluon.block import Block
from mxnet.gluon.parameter import Parameter

from ..state import TrainState
from .base import Hook

__all__ = ["AverageStatistics", "average_statistics", "running_statistics"]


class AverageStatistics(Hook):
    """Each worker's running means and variances see its own shard only; evaluations take their mean.

    Part of every distributed run; a checkpoint takes their mean itself.
    """

    def eval_begin(self, state):
        average_statistics(state)


def running_statistics(net: Block, frozen: Collection[str] = ()) -> Dict[str, Parameter]:
    """BN's running means and variances, by their names within the network, sorted; no masks, indices or the like.

    `frozen` : Names of those to leave out, which training does not change.
    """
    params = net._collect_params_with_prefix()
    names = [name for name in sorted(params) if name.endswith(("running_mean", "running_var")) and name not in frozen]
    return {name: params[name] for name in names}


def average_statistics(state: TrainState) -> None:
    """Replace BN's running means and variances by their mean over the workers, if training changes them."""
    if not state.moves_statistics:  # a mean of equal numbers may round
        return
    params = running_statistics(state.net, state.frozen).values()
    state.workers.average_([param.data() for param in params], "statistics")
