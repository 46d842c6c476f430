"""EMA: an exponential moving average of the weights, evaluated beside the network."""

from __future__ import annotations

from typing import Dict, Optional

import mxnet as mx
from mxnet.gluon.block import Block

from ..multi_tensor import Average
from .average_statistics import running_statistics
from .base import Hook

__all__ = ["EMA"]


class EMA(Hook):
    """average += (1 - d) * (weight - average) after every update, BN statistics included.

    d = min(decay, (1 + u) / (10 + u)) at update u, so that the first averages are not dominated by the random start
    (TensorFlow's `num_updates` rule); `warmup=False` uses `decay` from the beginning. What is neither trained nor a
    statistic, like the masks of a network that is pruned, is copied.
    Evaluations add the scores of the averaged weights as `ema_top1`, `ema_top5`, `ema_loss`.
    """

    def __init__(self, decay: float = 0.9999, warmup: bool = True):
        if not 0 < decay < 1:
            raise ValueError(f"hooks.ema.decay is {decay}; it must be between 0 and 1")
        self.decay, self.warmup = decay, warmup
        self.average: Dict[str, mx.nd.NDArray] = {}  # by the names of the parameters
        self._moved: Dict[str, mx.nd.NDArray] = {}  # of the network: what the average follows
        self._copied: Dict[str, mx.nd.NDArray] = {}  # and what it has as it is
        self._move: Optional[Average] = None
        self._averaged: Optional[int] = None  # update after which the statistics were averaged over the workers

    def train_begin(self, state):
        if not self.average:
            self.average = {name: param.data().copy() for name, param in _params(state)}
        # Out of a checkpoint they come in main memory.
        self.average = {name: array.as_in_context(state.ctx) for name, array in self.average.items()}
        # Walks over the network, in every update, would cost more than the average.
        statistics = running_statistics(state.net, state.frozen) if state.moves_statistics else {}
        self._moved, self._copied = {}, {}
        for name, param in _params(state):
            moves = param.grad_req != "null" or name in statistics
            (self._moved if moves else self._copied)[name] = param.data()
        self._move = None

    def batch_end(self, state):
        if self._move is None:
            self._move = Average([self.average[name] for name in self._moved], list(self._moved.values()))
        decay = min(self.decay, (1 + state.update) / (10 + state.update)) if self.warmup else self.decay
        self._move(mx.nd.full((1,), 1 - decay, ctx=state.ctx))

    def keep_in(self, net: Block) -> None:
        """Let `net`, of the trained network's definition, hold the average from now on: they share their memory."""
        for name, param in net._collect_params_with_prefix().items():
            param.set_data(self.average[name])
            self.average[name] = param.data()
        self._move = None

    def eval_begin(self, state):
        self._copy()
        self._average_statistics(state)

    def save_begin(self, state):
        self._copy()
        self._average_statistics(state)

    def _average_statistics(self, state):
        # Each worker's are of its shard alone.
        if state.moves_statistics and self._averaged != state.update:
            self._averaged = state.update
            state.workers.average_([self.average[name] for name in running_statistics(state.net, state.frozen)], "ema")

    def eval_end(self, state):
        if not state.scores:
            return
        own = {name: param.data().copy() for name, param in _params(state)}
        _load(state, self.average)
        try:
            state.scores.update({f"ema_{key}": value for key, value in state.evaluate().items()})
        finally:
            _load(state, own)

    def _copy(self):
        # Masks and their like change seldom, and other hooks may be what changes them.
        for name, array in self._copied.items():
            array.copyto(self.average[name])

    def state_dict(self):
        return {"average": self.average}

    def load_state_dict(self, values):
        self.average = values["average"]


def _params(state):
    return state.net._collect_params_with_prefix().items()


def _load(state, arrays):
    for name, param in _params(state):
        param.set_data(arrays[name])
