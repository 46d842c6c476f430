"""The optimizer of DARTS's architecture weights, and what is written down of them."""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, Sequence

import mxnet as mx

from ...files.write import write_text
from ...models.darts_search import SearchNet, shares_of
from .base import Hook

__all__ = ["GENOTYPE", "HISTORY", "Architecture"]

# In the run folder, from the end of the first epoch on.
GENOTYPE, HISTORY = "genotype.yaml", "architecture.json"


class Architecture(Hook):
    """Adam for the architecture weights of a `SearchNet`, whose gradients the task `darts` finds.

    After each epoch it writes the cells that the weights choose (`genotype.yaml`), and the shares of all operations
    after all epochs (`architecture.json`), into the run folder.

    Args:
        lr: Learning rate, the same over the whole run.
        beta1, beta2, epsilon: Of Adam.
        weight_decay: Of the architecture weights, added to their gradient.

    Source: DARTS, arXiv 1806.09055, `train_search.py` of its repository, for the defaults.
    """

    def __init__(
        self,
        lr: float = 3e-4,
        beta1: float = 0.5,
        beta2: float = 0.999,
        weight_decay: float = 1e-3,
        epsilon: float = 1e-8,
    ):
        for name, value, valid, rule in (
            ("lr", lr, lr > 0, "above 0"),
            ("beta1", beta1, 0 <= beta1 < 1, "at least 0 and below 1"),
            ("beta2", beta2, 0 <= beta2 < 1, "at least 0 and below 1"),
            ("weight_decay", weight_decay, weight_decay >= 0, "at least 0"),
            ("epsilon", epsilon, epsilon > 0, "above 0"),
        ):
            if not valid:
                raise ValueError(f"hooks.architecture.{name} is {value}; it must be {rule}")
        self.lr, self.betas, self.epsilon, self.weight_decay = lr, (beta1, beta2), epsilon, weight_decay
        self._count = 0
        self._moments: List[List[mx.nd.NDArray]] = []
        self._history: List[Dict[str, Any]] = []

    def train_begin(self, state):
        if not isinstance(state.net, SearchNet):
            name = state.net.identity["model"]
            raise ValueError(f"hooks.architecture is for model darts_search, and {name} has no architecture weights")

    def change(self, params: Sequence[mx.gluon.Parameter], gradients: Sequence[mx.nd.NDArray]) -> None:
        """Make one step of Adam."""
        self._moments = self._moments or [[mx.nd.zeros_like(gradient) for _ in range(2)] for gradient in gradients]
        self._count += 1
        one, two = (1 - beta**self._count for beta in self.betas)
        options = {"beta1": self.betas[0], "beta2": self.betas[1], "epsilon": self.epsilon, "wd": self.weight_decay}
        for param, gradient, moments in zip(params, gradients, self._moments):
            mx.nd.adam_update(
                param.data(), gradient, *moments, out=param.data(), lr=self.lr * math.sqrt(two) / one, **options
            )

    def batch_end(self, state):
        if state.update % state.updates_per_epoch and state.update != state.total_updates:
            return
        net = state.net
        shares = {param: shares_of(param.data().asnumpy()).round(6).tolist() for param in net.architecture}
        cells = dict(zip(("normal", "reduce"), shares.values()))
        self._history.append({"update": state.update, **cells})
        if state.workers.is_writer:
            history = {"operations": list(net.operations), "epochs": self._history}
            write_text(state.out / HISTORY, json.dumps(history) + "\n")
            write_text(state.out / GENOTYPE, net.genotype.text())

    def state_dict(self):
        return {"count": self._count, "moments": self._moments, "history": self._history}

    def load_state_dict(self, values):
        self._count, self._history = values["count"], list(values["history"])
        self._moments = [list(pair) for pair in values["moments"]]
