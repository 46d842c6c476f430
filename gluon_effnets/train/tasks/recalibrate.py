"""Recalibrate: the BN statistics of all widths of a slimmable network anew, its weights staying as they are."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Union

import mxnet as mx
from mxnet.gluon import Parameter

from ..batch_statistics import statistics_layers, watch_moments
from ..losses import soft_cross_entropy, soft_targets
from .base import Task
from .width_scores import Which, require_slimmable, width_list, width_sums

__all__ = ["Recalibrate"]


class Recalibrate(Task):
    """An update is a batch that passes through every width, slimmest first; its variances are unbiased.

    Where widths share a layer's statistics, as the early stages of DS-Net's do, each of them counts.

    Args:
        momentum: Share of a new batch in the statistics, which begin with mean 0 and variance 1: DS-Net's code has
            0.1. null: they are plain averages over all batches.
        largest: Also those statistics that the largest network has for itself. DS-Net's code leaves them at 0 and 1,
            which makes that network useless. What it shares with a sub-network stays that one's.
        evaluate: Widths, as of the task slimmable.
    """

    backwards = 0

    def __init__(
        self,
        momentum: Optional[float] = None,
        largest: bool = True,
        evaluate: Union[str, Sequence[Which]] = "ends",
    ):
        if momentum is not None and not 0 < momentum <= 1:
            raise ValueError(f"task_options.momentum is {momentum}; it must be above 0 and at most 1, or null")
        self.momentum, self.largest, self._evaluate = momentum, largest, evaluate

    def prepare(self, state, hooks):
        net = state.net
        require_slimmable(net, "task recalibrate")
        if state.accumulate > 1:
            raise ValueError("task recalibrate takes one batch per update: set accumulate to 1 in its stage")
        net.collect_params().setattr("grad_req", "null")
        self._widths = width_list(net, self._evaluate)
        self._views = [net.subnet(index) for index in range(net.num_widths)]
        self._of_subnets = {param for view in self._views for param in _statistics(view)}
        if not self._of_subnets:
            raise ValueError(f"{net.identity['model']} has no BN statistics to recalibrate: leave that stage out")

    def step(self, state, batch, backward):
        if state.update == 0:
            self._reset(state.net)
        moments: Dict[Parameter, List[mx.nd.NDArray]] = {}

        def add(layer, mean, variance):
            for param, value in ((layer.running_mean, mean), (layer.running_var, variance)):
                moments.setdefault(param, []).append(value)

        logits = [_pass(view, batch.data, add) for view in self._views]
        if self.largest:
            _pass(state.net, batch.data, lambda layer, *values: self._is_shared(layer) or add(layer, *values))
        for param, values in moments.items():
            if self.momentum is None:
                _move(param, mx.nd.add_n(*values) / len(values), 1 / (state.update + 1))
            for value in values if self.momentum is not None else ():
                _move(param, value, self.momentum)
        labels = soft_targets(batch.label, state.net.num_classes)
        return {"loss": soft_cross_entropy(logits[0], labels)}

    def _is_shared(self, layer) -> bool:
        return layer.running_mean in self._of_subnets

    def _reset(self, net) -> None:
        for param in {*self._of_subnets, *_statistics(net)}:
            fill = mx.nd.ones_like if param.name.endswith("running_var") else mx.nd.zeros_like
            param.set_data(fill(param.data()))

    def evaluate(self, state, batch):
        return width_sums(state.net, batch, self._widths)


def _statistics(net) -> List[Parameter]:
    return [param for layer in statistics_layers(net) for param in (layer.running_mean, layer.running_var)]


def _pass(view, images: mx.nd.NDArray, add) -> mx.nd.NDArray:
    with watch_moments(view, add):
        logits = view(images)
    # Imperative calls return at once: without a wait the maps of all widths would be in memory together.
    mx.nd.waitall()
    return logits


def _move(param: Parameter, value: mx.nd.NDArray, share: float) -> None:
    data = param.data()
    data += share * (value.as_in_context(data.context) - data)
