"""The loop: every run, whatever its method, goes through these few lines.

A whole run, with the moments at which hooks are called:

    train_begin
    for every epoch:
        epoch_begin
        for every update:
            for each of its batches:  batch_begin -> task.step (forward passes, each ended by backward)
            gradients are summed over the workers; meanwhile the next batch goes to its device
            before_update -> the optimizer changes the weights -> batch_end
            where due:  eval_begin -> task.evaluate on every image once -> task.finish_evaluation -> eval_end
        epoch_end
    train_end

A signal that asks for the end of the run within an evaluation has eval_stopped in place of eval_end; a run that goes on
then begins with this evaluation.

What a method adds is a task or a hook; none is named here.
"""

from __future__ import annotations

import functools
from typing import Dict, List, Optional, Sequence

import mxnet as mx

from .data import Batch
from .evaluation import EvaluationBoundaries, evaluate, placed
from .hooks.base import Hook
from .memory_format import restore_layout
from .scalars import Scalars
from .signals import EvaluationStopped, Stopped
from .state import TrainState
from .tasks.base import Task

__all__ = ["run_evaluation", "train"]

_MOST_UNREAD = 100  # of a run without hooks that read them


def train(state: TrainState, task: Task, hooks: Sequence[Hook]) -> None:
    """Run from `state.update` to `state.total_updates`.

    Args:
        state: Of `build`, or as a checkpoint left it.
        task: What a step computes.
        hooks: What happens around it, in this order.

    Raises:
        ValueError: The hooks do not go together in this order; a checkpoint must be the last.
    """
    for hook in hooks:
        hook.check(hooks)
    state.evaluate = functools.partial(run_evaluation, state, task)
    state.epoch = state.update // state.updates_per_epoch
    grads = _prepare_gradients(state, task)
    _call(hooks, "train_begin", state)
    if state.evaluation_due:
        _evaluate(state, hooks)
    while state.update < state.total_updates:
        _call(hooks, "epoch_begin", state)
        done = state.update % state.updates_per_epoch
        last = min(state.total_updates, (state.epoch + 1) * state.updates_per_epoch)
        batches = _Batches(state, done, last)
        while state.update < last:
            _one_update(state, task, hooks, batches, grads)
            if state.update == state.total_updates or state.update % state.evaluate_every == 0:
                _evaluate(state, hooks)
        _call(hooks, "epoch_end", state)
    _call(hooks, "train_end", state)


def run_evaluation(state: TrainState, task: Task) -> Dict[str, float]:
    """One pass over the evaluation images by the rules of a task; all workers make it together.

    Args:
        state: Of the run.
        task: Whose scores they are.
    """
    task.begin_evaluation(state)
    score, finish = (functools.partial(part, state) for part in (task.evaluate, task.finish_evaluation))
    boundaries = EvaluationBoundaries(state.stage.updates_before + state.update, state.evaluations)
    state.evaluations += 1
    try:
        return evaluate(state.net, state.data, state.workers, state.ctx, score, finish, boundaries)
    except EvaluationStopped:
        restore_layout(state.net)
        raise


def _prepare_gradients(state: TrainState, task: Task) -> List[mx.nd.NDArray]:
    """Return the gradients that must be zero before an update, as several backward passes add to them."""
    params = [param for param in state.net.collect_params().values() if param.grad_req != "null"]
    state.trains = bool(params)
    adds_up = state.accumulate * task.backwards > 1
    for param in params:
        param.grad_req = "add" if adds_up else "write"
    return [grad for param in params for grad in param.list_grad()] if adds_up else []


class _Batches:
    """The batches of an epoch, each of which can be brought to its device before it is needed."""

    def __init__(self, state: TrainState, done: int, last: int):
        place = done * state.accumulate
        self._batches = iter(state.data.train_batches(state.epoch, place))
        self._left, self._ctx = (last - state.update) * state.accumulate, state.ctx
        self._ahead: Optional[Batch] = None

    def fetch(self) -> None:
        """Bring the next batch, if the epoch has one, to the device."""
        if self._ahead is None and self._left:
            self._left -= 1
            self._ahead = placed(next(self._batches), self._ctx)

    def take(self) -> Batch:
        """The next batch."""
        self.fetch()
        batch, self._ahead = self._ahead, None
        assert batch is not None, "an epoch has as many batches as its updates take"
        return batch


def _one_update(state: TrainState, task: Task, hooks: Sequence[Hook], batches: _Batches, grads: list) -> None:
    scalars: Dict[str, list] = {}
    backward = functools.partial(state.precision.backward, trainer=state.trainer)
    if grads:
        mx.nd.reset_arrays(*grads, num_arrays=len(grads))
    for micro in range(state.accumulate):
        batch = batches.take()
        # Dropout and its like then depend on the place in the run alone, so that a resumed run repeats them.
        mx.random.seed(_step_seed(state, micro))
        for hook in hooks:
            batch = hook.batch_begin(state, batch) or batch
        for key, value in task.step(state, batch, backward).items():
            scalars.setdefault(key, []).append(value)
        if micro + 1 < state.accumulate:
            batches.fetch()
    means = Scalars({key: _mean(values) for key, values in scalars.items()})
    waited = _change_weights(state, hooks, batches, means)
    if state.ctx.device_type == "cpu" and not waited:
        # MXNet's engine does not know when a graph of static shapes changes running statistics, which hooks may read.
        mx.nd.waitall()
    state.update += 1
    state.evaluations = 0
    state.epoch = state.update // state.updates_per_epoch
    state.scalars = means
    state.unread = [*state.unread[-_MOST_UNREAD:], means]
    _call(hooks, "batch_end", state)


def _mean(values: list):
    return sum(values) / len(values) if len(values) > 1 else values[0]


def _change_weights(state: TrainState, hooks: Sequence[Hook], batches: _Batches, scalars: Scalars) -> bool:
    """Let the optimizer change what the task trains, if it trains anything; return whether this waited."""
    state.trainer.set_learning_rate(state.base_lr * state.schedule(state.update + 1))
    if state.trains:
        state.trainer.allreduce_grads()
    # While the device is still at work on the gradients: behind the update it would have nothing to do meanwhile.
    batches.fetch()
    if not state.trains:
        return False
    state.grad_scale = state.trainer._scale / state.accumulate
    _call(hooks, "before_update", state)
    return state.precision.update(state.trainer, state.accumulate, scalars)


def _step_seed(state: TrainState, micro: int) -> int:
    place = (state.update * state.accumulate + micro) * state.workers.size + state.workers.rank
    return (state.seed * 1_000_003 + place) % 2**31


def _evaluate(state: TrainState, hooks: Sequence[Hook]) -> None:
    state.workers.progress(f"in the evaluation after update {state.update}")
    _call(hooks, "eval_begin", state)
    assert state.evaluate is not None
    try:
        state.scores = state.evaluate() if state.data.num_val else {}
        state.evaluation_due = False
        _call(hooks, "eval_end", state)
    except EvaluationStopped as wish:
        # A run that goes on begins with it.
        state.evaluation_due = True
        _call(hooks, "eval_stopped", state)
        raise Stopped(wish.signum, state.update) from None


def _call(hooks: Sequence[Hook], moment: str, state: TrainState) -> None:
    for hook in hooks:
        getattr(hook, moment)(state)
