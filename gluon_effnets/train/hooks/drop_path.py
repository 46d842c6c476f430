"""Drop path: operations of cells are left out at random, more of them as a run goes on."""

from __future__ import annotations

from ...models.darts import DartsNet
from .base import Hook

__all__ = ["DropPath"]


class DropPath(Hook):
    """Let each operation of a cell be dropped, per image, with a probability that rises linearly from epoch to epoch.

    It is 0 in the first epoch, and would be `final` in the one behind the last. Identities are never dropped.

    Args:
        final: The probability at the end, 0.2 in DARTS.

    Source: DARTS, arXiv 1806.09055, `train.py` of its repository.
    """

    def __init__(self, final: float = 0.2):
        if not 0 <= final < 1:
            raise ValueError(f"hooks.drop_path.final is {final}; it must be at least 0 and below 1")
        self.final = final

    def train_begin(self, state):
        if not isinstance(state.net, DartsNet):
            name = state.net.identity["model"]
            raise ValueError(f"hooks.drop_path is for networks of cells, such as cifar_darts_v2, and not for {name}")

    def epoch_begin(self, state):
        # A rate belongs to the graph, which is made anew.
        state.net.set_drop_path(self.final * state.epoch * state.updates_per_epoch / state.total_updates)
