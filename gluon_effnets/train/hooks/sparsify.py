"""Sparsify: learned layers pruned in stages while the network trains, as CondenseNets are."""

from __future__ import annotations

import json
import logging
from fractions import Fraction
from typing import Dict, List, Sequence

from mxnet.gluon.block import Block
from tqdm import tqdm

from ...files.write import write_text
from ...nn import MaskedConv, masked_layers
from ..state import TrainState
from .base import Hook

__all__ = ["SPARSITY", "Sparsify", "Unpruned", "due_stage"]

log = logging.getLogger(__name__)

SPARSITY = "sparsity.json"  # in the run folder


def due_stage(update: int, total_updates: int, factor: int, until: Fraction) -> int:
    """Number of drops that a layer of this factor must have before update number `update` (from 0) of a run.

    That is the number of i in 1..factor - 1 with update / total_updates >= until * i / (factor - 1), computed exactly.
    """
    return min(factor - 1, update * (factor - 1) // (until * total_updates))


class Sparsify(Hook):
    """Prunes the masked layers of a network in the first part of the run; the rest trains what is left.

    A layer of factor C loses 1/C of each of its groups C - 1 times, the i-th time before the forward pass of the first
    update u (from 0) with u / T >= until * i / (C - 1) in a run of T updates (CondenseNet, arXiv 1711.09224;
    CondenseNetV2, arXiv 2104.04382). What a resumed run jumped over is caught up there. What no update is left for, in
    very short runs, is done after the last one, with a warning.

    Rank 0 decides for all workers. Masks are parameters and so part of every checkpoint. Dropped weights still have
    weight decay and momentum, as in the authors' code: their values mean nothing.

    Args:
        until: Share of the run in which all stages happen, between 0 and 1; 0.5 in both papers.
        group_lasso: Weight of the group lasso in the loss, which the authors use for CondenseNet on ImageNet alone
            (1e-5). It acts on a layer until its last stage; so does theirs if G = C, which it takes for C.

    `state.scalars` has the kept share of the weights of these layers as `kept`. At the end the run folder has
    sparsity.json: shares `kept` of every layer after every stage, and of its channels that any group still uses.

    Raises:
        ValueError: Options are out of range; at the start, the network has no masked layers.
    """

    def __init__(self, until: float = 0.5, group_lasso: float = 0.0):
        if not 0 < until < 1:
            raise ValueError(f"hooks.sparsify.until is {until}; it must be between 0 and 1")
        if group_lasso < 0:
            raise ValueError(f"hooks.sparsify.group_lasso is {group_lasso}; it must be at least 0")
        # As written: the 0.3 of a recipe is 3/10.
        self._until, self.group_lasso = Fraction(str(until)), group_lasso
        self.history: List[dict] = []  # after every stage, from 0
        self._layers: Dict[str, MaskedConv] = {}
        self._stages: Dict[str, int] = {}  # as the masks are; reading those would wait for the device

    def train_begin(self, state):
        self._layers = masked_layers(state.net)
        if not self._layers:
            raise ValueError(
                f"hooks.sparsify: {state.net.info.name} has no masked layers to prune.\n"
                "Leave the hook out (--set hooks={}), or train a CondenseNet that is not condensed yet."
            )
        kept = [path for path in self._layers if {f"{path}.weight", f"{path}.mask"} & {*state.frozen}]
        if kept:
            raise ValueError(f"hooks.sparsify prunes {kept[0]}, which freeze keeps as it is: leave it out of freeze")
        self._stages = {path: layer.stage for path, layer in self._layers.items()}
        if not self.history:
            self._record(state)
        self._kept = _kept_share(self._layers)

    def batch_begin(self, state, batch):
        self._catch_up(state)

    def before_update(self, state):
        if not self.group_lasso:
            return
        for path, layer in self._layers.items():
            if self._stages[path] < layer.factor - 1:
                gradient = layer.weight.grad()
                gradient += self.group_lasso / state.grad_scale * layer.lasso_gradient()

    def batch_end(self, state):
        if state.update == state.total_updates and self._catch_up(state) and state.workers.is_writer:
            log.warning(
                "the run has too few updates for all stages of the pruning: the last ones came after its end.\n"
                "Nothing was trained after them; a longer duration or a smaller hooks.sparsify.until leaves room."
            )
        state.scalars["kept"] = self._kept

    def train_end(self, state):
        if state.workers.is_writer:
            record = {"layers": list(self._layers), "stages": self.history}
            write_text(state.out / SPARSITY, json.dumps(record) + "\n")

    def state_dict(self):
        return {"history": self.history}

    def load_state_dict(self, values):
        self.history = values["history"]

    def _catch_up(self, state: TrainState) -> bool:
        """Drop what is due, one stage of all layers after the other; return whether anything was."""
        factors = {layer.factor for layer in self._layers.values()}
        due = {factor: due_stage(state.update, state.total_updates, factor, self._until) for factor in factors}
        dropped = False
        while True:
            behind = [path for path, layer in self._layers.items() if self._stages[path] < due[layer.factor]]
            if not behind:
                return dropped
            dropped = True
            for path in behind:
                # Sums of equal weights may round differently on another worker, and decide near-ties.
                if state.workers.is_writer:
                    self._layers[path].drop()
                self._stages[path] += 1
            state.workers.broadcast_([self._layers[path].mask.data() for path in behind], "masks")
            self._record(state)
            self._kept = _kept_share(self._layers)
            self._tell(state)

    def _record(self, state: TrainState) -> None:
        masks = [layer.mask.data().asnumpy() for layer in self._layers.values()]
        kept, used = [float(mask.mean()) for mask in masks], [float(mask.any(axis=0).mean()) for mask in masks]
        self.history.append({"update": state.update, "kept": kept, "used": used})

    def _tell(self, state: TrainState) -> None:
        if not state.workers.is_writer:
            return
        stages = sorted({(layer.factor - 1, self._stages[path]) for path, layer in self._layers.items()})
        text = ", ".join(f"{stage} of {last}" for last, stage in stages)
        tqdm.write(
            f"sparsify: stage {text} at update {state.update} of {state.total_updates}, "
            f"{self._kept:.1%} of the weights of {len(self._layers)} layers kept"
        )


class Unpruned(Hook):
    """Warns at the start of a network that will train dense, and at the end of one that is not pruned completely.

    Part of every run.
    """

    _pruned = False

    def check(self, hooks: Sequence[Hook]) -> None:
        self._pruned = any(isinstance(hook, Sparsify) for hook in hooks)

    def train_begin(self, state):
        if state.workers.is_writer and not self._pruned and _unfinished(state.net):
            log.warning(
                "%s has layers to prune, but the recipe has no hook that does: it will train dense.\n"
                "Add --set hooks.sparsify={}; without it the network cannot be condensed.",
                state.net.info.name,
            )

    def train_end(self, state):
        left = _unfinished(state.net) if state.workers.is_writer else 0
        if left:
            log.warning(
                "%d of %d learned layers are not pruned to the end: the network cannot be condensed",
                left,
                len(masked_layers(state.net)),
            )


def _unfinished(net: Block) -> int:
    return sum(not layer.finished for layer in masked_layers(net).values())


def _kept_share(layers: Dict[str, MaskedConv]) -> float:
    sizes = {path: layer.weight.data().size for path, layer in layers.items()}
    kept = sum(size * layers[path].kept / layers[path].mask.shape[1] for path, size in sizes.items())
    return kept / sum(sizes.values())
