"""SinglePath: a one-shot network, of which every update trains one placement of IdleBlocks, drawn at random."""

from __future__ import annotations

import itertools
from typing import List, Tuple

import numpy as np
from mxnet import autograd

from ...models.idle_paths import IdlePaths, PathNet
from ..losses import soft_cross_entropy, soft_targets
from ..metrics import classification_sums
from ..path_statistics import Statistics, path_statistics, with_statistics
from .base import Task

__all__ = ["SinglePath"]


class SinglePath(Task):
    """Classification by one path per update, drawn uniformly (SPOS, arXiv 1904.00420, section 3.2).

    The network is a MobileNetV3 or EfficientNet-B0, or one with appended IdleBlocks: its blocks and the IdleBlocks that
    can stand in their place share weights (`gluon_effnets.models.idle_paths`). Seed and number of the update decide the
    path, so that all workers, and all batches of an update, train the same one, and a resumed run goes on with it.

    The scores top1, top5 and loss are those of the whole network; top1_smallest is that of the path with an IdleBlock
    wherever one can stand. Both have BN statistics of their own, computed anew for every evaluation.

    Args:
        label_smoothing: Share of the target that goes to all classes alike.
        sides: Which IdleBlocks there are: 'left', 'right' or 'both'.
        statistics_batches: Training batches, the first of the next epoch, that BN statistics are averages over.
    """

    def __init__(self, label_smoothing: float = 0.0, sides: str = "left", statistics_batches: int = 8):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"task_options.label_smoothing is {label_smoothing}; it must be in [0, 1)")
        if sides not in SIDES_OF:
            raise ValueError(f"task_options.sides is {sides!r}; choose one of {', '.join(SIDES_OF)}")
        if statistics_batches < 1:
            raise ValueError(f"task_options.statistics_batches is {statistics_batches}; it must be at least 1")
        self.label_smoothing, self.sides, self.statistics_batches = label_smoothing, sides, int(statistics_batches)
        self._scored: List[Tuple[str, PathNet, Statistics]] = []

    def prepare(self, state, hooks):
        self._paths = IdlePaths(state.net, SIDES_OF[self.sides])

    def step(self, state, batch, backward):
        path = self._paths.sample(np.random.RandomState([state.seed, state.update]))
        target = soft_targets(batch.label, state.net.num_classes, self.label_smoothing)
        with autograd.record():
            loss = soft_cross_entropy(self._paths.net_of(path)(batch.data), target)
        backward(loss)
        for param in self._paths.unused(path) if state.accumulate == 1 else ():
            _clear_gradient(param)
        return {"loss": loss}

    def begin_evaluation(self, state):
        epoch = -(-state.update // state.updates_per_epoch)
        paths = {"whole": self._paths.whole(), "smallest": self._paths.smallest()}
        self._scored = []
        for name, path in paths.items():
            batches = itertools.islice(state.data.train_batches(epoch), self.statistics_batches)
            net = self._paths.net_of(path)
            images = (batch.data.as_in_context(state.ctx) for batch in batches)
            self._scored.append((name, net, path_statistics(net, images)))

    def evaluate(self, state, batch):
        sums = {}
        for name, net, statistics in self._scored:
            with with_statistics(statistics):
                found = classification_sums(net(batch.data), batch.label, batch.num_valid)
            sums = sums or found
            sums[f"top1_{name}"] = found["top1"]
        return sums


SIDES_OF = {"left": ("left",), "right": ("right",), "both": ("left", "right")}


def _clear_gradient(param) -> None:
    """Let the trainer find a gradient of zeros where a path has left a block out, and the last one is still there."""
    for data, grad in zip(param.list_data(), param.list_grad() if param.grad_req != "null" else ()):
        grad[:] = 0
        data._fresh_grad = True
