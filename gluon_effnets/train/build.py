"""Everything that a run, or a stage of one, needs, made of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import mxnet as mx

from ..complexity import count_params
from ..models import get_model
from .checkpoint import Checkpoint, load_last
from .config import Recipe, differences
from .data import Data, open_data
from .dist import Workers
from .durations import to_updates
from .hooks import Hook, make_hooks
from .hooks.average_statistics import AverageStatistics
from .hooks.logs import JsonLines, Progress
from .hooks.sparsify import Unpruned
from .hooks.watched import Watched
from .optim import base_learning_rate, make_optimizer
from .precision import Precision
from .schedules import make_schedule
from .state import StagePlace, TrainState
from .tasks import Task, make_task

__all__ = ["SMALL_IMAGE", "build", "model_options", "resume", "say"]

SMALL_IMAGE = 96  # below this side the first convolution keeps the resolution


def build(
    recipe: Recipe, out: Path, workers: Workers, stage: StagePlace = StagePlace(), start: Optional[Path] = None
) -> Tuple[TrainState, Task, List[Hook]]:
    """Make everything a run, or a stage of one, needs, with weights initialized and equal on all workers.

    `start` is a `.params` file with the weights to begin with, which worker 0 alone reads.
    Raises ValueError, FileNotFoundError or ImportError with what to change.
    """
    assert not recipe.stages, "of a recipe with stages each part is built for itself"
    ctx = workers.device()
    task, hooks = make_task(recipe.task, recipe.task_options), make_hooks(recipe.hooks)
    data = open_data(recipe.data, seed=recipe.seed, rank=workers.rank, world=workers.size)
    if not data.num_train:
        raise ValueError(f"{recipe.data.source} has no training images; it serves for evaluation alone (validate)")
    precision = Precision(recipe.precision, ctx)
    net = _make_net(recipe, data, ctx)
    if start and workers.is_writer:
        net.load_parameters(str(start), ctx=ctx)
        net.preprocessing = data.settings.preprocessing
    workers.broadcast_([p.data() for _, p in sorted(net._collect_params_with_prefix().items())], "weights")

    per_epoch = data.steps_per_epoch // recipe.accumulate
    if per_epoch < 1:
        raise ValueError(
            f"accumulate={recipe.accumulate} needs more batches than the {data.steps_per_epoch} of an epoch"
        )
    total = to_updates(recipe.duration, per_epoch)
    if total < 1:
        raise ValueError(f"duration is {recipe.duration}; the run must have at least one update")
    lr = base_learning_rate(recipe.optimizer, recipe.data.batch_size * workers.size * recipe.accumulate)
    optimizer = make_optimizer(recipe.optimizer, net, lr, per_epoch, total)
    trainer = workers.make_trainer(net, optimizer, recipe.distributed.compression)
    precision.prepare(trainer)
    state = TrainState(
        net=net,
        trainer=trainer,
        data=data,
        workers=workers,
        out=out,
        total_updates=total,
        updates_per_epoch=per_epoch,
        base_lr=lr,
        schedule=make_schedule(recipe.schedule, per_epoch, total),
        precision=precision,
        ctx=ctx,
        accumulate=recipe.accumulate,
        evaluate_every=max(1, to_updates(recipe.evaluate_every, per_epoch, total)),
        seed=recipe.seed,
        stage=stage,
        moves_statistics=task.moves_statistics,
        num_params=count_params(net),
    )
    task.prepare(state, hooks)
    if workers.size > 1:
        hooks.append(AverageStatistics())
    hooks += [Unpruned(hooks), JsonLines(), Progress(), Watched()]
    hooks.append(Checkpoint(hooks, recipe.as_dict(), every=recipe.checkpoint_every))
    return state, task, hooks


def model_options(recipe: Recipe, data: Data) -> dict:
    """Constructor options: those of the recipe, and what follows from the data."""
    small = {"stem_stride": 1} if data.image_size < SMALL_IMAGE else {}
    return {**small, **recipe.model_options, "classes": data.num_classes, "in_channels": data.in_channels}


def _make_net(recipe: Recipe, data: Data, ctx: mx.Context):
    # Initializers draw from MXNet's global generator.
    mx.random.seed(recipe.seed)
    try:
        net = get_model(recipe.model, pretrained=recipe.pretrained or False, ctx=ctx, **model_options(recipe, data))
    except TypeError as error:
        raise ValueError(f"model_options: {error}") from None
    if not recipe.pretrained:
        net.initialize(ctx=ctx)
    # Whatever pretrained weights wanted, those of this run see these images.
    net.preprocessing = data.settings.preprocessing
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def resume(state: TrainState, hooks: Sequence[Hook], recipe: Recipe) -> None:
    """Go on from the last checkpoint of the run folder, if there is one, and say what is different from then."""
    run = load_last(state, hooks)
    if run is None:
        return
    say(state, f"resuming from update {state.update} of {state.total_updates}")
    for line in differences(run["recipe"], recipe.as_dict()):
        say(state, f"  changed since that checkpoint: {line}")
    if run["workers"] != state.workers.size:
        say(state, f"  changed since that checkpoint: workers {run['workers']} -> {state.workers.size}")
    if run.get("operators", state.operators) != state.operators:
        say(state, f"  changed since that checkpoint: operators {run['operators']} -> {state.operators}")
    if run["update"] != state.update:
        say(state, f"  the place in the run is kept in epochs: update {run['update']} -> {state.update}")


def say(state: TrainState, text: str) -> None:
    if state.workers.is_writer:
        print(text, flush=True)
