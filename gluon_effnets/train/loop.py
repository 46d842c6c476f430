"""The loop: every run, whatever its method, goes through these few lines.

A whole run, with the moments at which hooks are called:

    train_begin
    for every epoch:
        epoch_begin
        for every update:
            for each of its batches:  batch_begin -> task.step (forward passes, each ended by backward)
            gradients are summed over the workers
            before_update -> the optimizer changes the weights -> batch_end
            where due:  eval_begin -> task.evaluate on every image once -> eval_end
        epoch_end
    train_end

What a method adds is a task or a hook; none is named here.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Dict, Iterable, Sequence

import mxnet as mx
from mxnet import autograd

from ..progress import progress_bar
from .data import Batch
from .hooks.base import Hook
from .layout import restore_layout
from .metrics import means
from .state import TrainState
from .tasks.base import Task

__all__ = ["evaluate", "train"]


def train(state: TrainState, task: Task, hooks: Sequence[Hook]) -> None:
    """Run from `state.update` to `state.total_updates`."""
    state.evaluate = lambda: evaluate(state, task)
    grads = _prepare_gradients(state, task)
    _call(hooks, "train_begin", state)
    while state.update < state.total_updates:
        _call(hooks, "epoch_begin", state)
        done = state.update % state.updates_per_epoch
        batches = iter(state.data.train_batches(state.epoch, done * state.accumulate))
        last = min(state.total_updates, (state.epoch + 1) * state.updates_per_epoch)
        while state.update < last:
            _one_update(state, task, hooks, batches, grads)
            if state.update == state.total_updates or state.update % state.evaluate_every == 0:
                _evaluate(state, hooks)
        _call(hooks, "epoch_end", state)
    _call(hooks, "train_end", state)


def evaluate(state: TrainState, task: Task) -> Dict[str, float]:
    """Mean of every score over all evaluation images, each counted once over all workers."""
    sums: Dict[str, float] = {"count": 0}
    with autograd.predict_mode():
        bar = {"desc": "evaluation", "unit": " batches", "delay": 2}
        for batch in progress_bar(state.data.val_batches(), shown=state.workers.is_writer, **bar):
            state.workers.progress("in an evaluation")
            batch = _placed(batch, state.ctx)
            for key, value in task.evaluate(state, batch).items():
                sums[key] = sums.get(key, 0) + value
    restore_layout(state.net)
    sums = state.workers.sum(sums)
    assert sums["count"] == state.data.num_val, f"evaluated {sums['count']} of {state.data.num_val} images"
    return means(sums)


def _prepare_gradients(state: TrainState, task: Task) -> list:
    params = [param for param in state.net.collect_params().values() if param.grad_req != "null"]
    adds_up = state.accumulate * task.backwards > 1
    for param in params:
        param.grad_req = "add" if adds_up else "write"
    return [grad for param in params for grad in param.list_grad()] if adds_up else []


def _one_update(state: TrainState, task: Task, hooks: Sequence[Hook], batches: Iterable, grads: list) -> None:
    scalars: Dict[str, list] = {}
    backward = functools.partial(state.precision.backward, trainer=state.trainer)
    if grads:
        mx.nd.reset_arrays(*grads, num_arrays=len(grads))
    for micro in range(state.accumulate):
        # Dropout and its like then depend on the place in the run alone, so that a resumed run repeats them.
        mx.random.seed(_step_seed(state, micro))
        batch = _placed(next(batches), state.ctx)
        for hook in hooks:
            batch = hook.batch_begin(state, batch) or batch
        for key, value in task.step(state, batch, backward).items():
            scalars.setdefault(key, []).append(value)
    state.trainer.set_learning_rate(state.base_lr * state.schedule(state.update + 1))
    state.trainer.allreduce_grads()
    _call(hooks, "before_update", state)
    state.trainer.update(state.accumulate)
    state.update += 1
    state.scalars = {key: sum(values) / len(values) for key, values in scalars.items()}
    _call(hooks, "batch_end", state)


def _placed(batch: Batch, ctx: mx.Context) -> Batch:
    return dataclasses.replace(batch, data=batch.data.as_in_context(ctx), label=batch.label.as_in_context(ctx))


def _step_seed(state: TrainState, micro: int) -> int:
    place = (state.update * state.accumulate + micro) * state.workers.size + state.workers.rank
    return (state.seed * 1_000_003 + place) % 2**31


def _evaluate(state: TrainState, hooks: Sequence[Hook]) -> None:
    _call(hooks, "eval_begin", state)
    state.scores = state.evaluate() if state.data.num_val else {}
    _call(hooks, "eval_end", state)


def _call(hooks: Sequence[Hook], moment: str, state: TrainState) -> None:
    for hook in hooks:
        getattr(hook, moment)(state)
