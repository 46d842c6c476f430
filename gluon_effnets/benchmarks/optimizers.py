"""Optimizers timed side by side on the parameters of one network: what a step costs, beside NAG's."""

from __future__ import annotations

import time
from typing import Dict, List, NamedTuple, Sequence

import mxnet as mx

from ..models import get_model
from ..tables import Table
from ..timing import Speedup, speedup, time_interleaved
from ..train.optim import LargeBatchSGD

__all__ = ["OPTIMIZERS", "OptimizerRow", "compare_optimizers", "optimizers_table"]

_WARMUP = {"batch_scale": 32, "warmup_updates": 10_000}

OPTIMIZERS: Dict[str, tuple] = {  # name in the table: (class, options)
    "nag": (mx.optimizer.NAG, {}),
    "lb_sgd linear": (LargeBatchSGD, {"warmup_strategy": "linear", **_WARMUP}),
    "lb_sgd power2": (LargeBatchSGD, {"warmup_strategy": "power2", **_WARMUP}),
    "lb_sgd sqrt": (LargeBatchSGD, {"warmup_strategy": "sqrt", **_WARMUP}),
    "lb_sgd lars": (LargeBatchSGD, {"warmup_strategy": "lars"}),
    "MXNet's lbsgd linear": (mx.optimizer.LBSGD, {"warmup_strategy": "linear"}),
    "MXNet's lbsgd lars": (mx.optimizer.LBSGD, {"warmup_strategy": "lars"}),
    "MXNet's lars": (mx.optimizer.LARS, {}),
}


class OptimizerRow(NamedTuple):
    """Milliseconds of processor time for one update of all parameters; how many times as fast as NAG it is."""

    name: str
    minimum: float
    median: float
    over_nag: Speedup


def compare_optimizers(
    model: str = "mobilenet_v3_large", repeats: int = 20, names: Sequence[str] = tuple(OPTIMIZERS)
) -> List[OptimizerRow]:
    """Time one update of the parameters of a model with optimizers of OPTIMIZERS, nag among them, in turn.

    Processor time is counted, which other processes disturb less than the clock; set OMP_NUM_THREADS=1. The weights and
    gradients are shared by all; each has its own momentum, as after a Trainer's step, whose own overhead is left out.
    """
    net = get_model(model)
    net.initialize()
    params = [param for _, param in sorted(net.collect_params().items()) if param.grad_req != "null"]
    param_names, weights = {index: param.name for index, param in enumerate(params)}, [param.data() for param in params]
    mx.random.seed(0)
    grads = [mx.nd.random.normal(scale=1e-3, shape=weight.shape) for weight in weights]

    def step(optimizer: type, options: dict):
        common = {"learning_rate": 1e-6, "wd": 3e-5, "momentum": 0.9}
        updater = mx.optimizer.get_updater(optimizer(param_idx2name=param_names, **common, **options))

        def call():
            updater(list(param_names), list(grads), list(weights))
            mx.nd.waitall()

        return call

    mx.nd.waitall()
    calls = {name: step(*OPTIMIZERS[name]) for name in names}
    times = time_interleaved(calls, repeats, time.process_time)
    nag = times["nag"].samples
    return [OptimizerRow(name, *found[:2], speedup(found.samples, nag)) for name, found in times.items()]


def optimizers_table(rows: List[OptimizerRow]) -> Table:
    """The rows as a table."""
    columns = ["optimizer", ("step, ms", ".1f"), ("median, ms", ".1f"), "times as fast as NAG"]
    lines = [(*row[:3], None if row.name == "nag" else str(row.over_nag)) for row in rows]
    return Table(columns, lines)
