"""Everything that a run, or a stage of one, needs, made of a recipe."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import mxnet as mx

from .._foreign import is_foreign
from ..complexity import count_params
from ..detection import Detector, get_detector, is_detector, list_detectors, load_detector
from ..models import Card, ClassificationNet, get_model
from ..models.card import compare_names
from ..weights.conversion import weights_path
from .checkpoint import Checkpoint, load_last
from .config import Recipe, differences
from .data import Data, open_data
from .dist import Workers
from .durations import to_updates
from .final_weights import exported_weights
from .hooks import Hook, make_hooks
from .hooks.average_statistics import AverageStatistics
from .hooks.logs import JsonLines, Progress
from .hooks.skipped import SkippedUpdates
from .hooks.sparsify import Unpruned
from .hooks.watched import Watched
from .optim import base_learning_rate, make_optimizer
from .parts import freeze
from .precision import Precision
from .pretrained import data_settings, restore_statistics
from .schedules import make_schedule
from .state import StagePlace, TrainState
from .tasks import Task, make_task

__all__ = ["SMALL_IMAGE", "Built", "Hooks", "build", "model_options", "resume", "say"]

log = logging.getLogger(__name__)

Network = Union[ClassificationNet, Detector]

SMALL_IMAGE = 96  # below this side the first convolution keeps the resolution


@dataclasses.dataclass(frozen=True)
class Hooks(Sequence[Hook]):
    """The hooks of a run as a sequence, in the order of their calls. The checkpoint, which is the last, knows them all.

    Attributes:
        recipe: Those that the recipe names.
        extra: Those that the caller of `build` adds.
        service: Those of every run: logs, progress, the watchdog.
        checkpoint: Keeps the states of all.
    """

    recipe: Tuple[Hook, ...]
    extra: Tuple[Hook, ...]
    service: Tuple[Hook, ...]
    checkpoint: Checkpoint

    def __getitem__(self, index):
        return (*self.recipe, *self.extra, *self.service, self.checkpoint)[index]

    def __len__(self) -> int:
        return len(self.recipe) + len(self.extra) + len(self.service) + 1


class Built(NamedTuple):
    """A run that can begin: the arguments of `loop.train`.

    Attributes:
        state: What loop, task and hooks share.
        task: What one step computes.
        hooks: In their order; the last one writes checkpoints.
    """

    state: TrainState
    task: Task
    hooks: Hooks


def build(
    recipe: Recipe,
    out: Path,
    workers: Workers,
    stage: StagePlace = StagePlace(),
    start: Optional[Path] = None,
    extra_hooks: Sequence[Hook] = (),
) -> Built:
    """Make everything a run, or a stage of one, needs, with weights initialized and equal on all workers.

    Args:
        recipe: Without stages.
        out: The run folder, which is there.
        workers: Of `start_workers`, or `Workers()` for this process alone.
        stage: The place of a stage among the others.
        start: A `.params` file with the weights to begin with, which worker 0 alone reads.
        extra_hooks: Called after those of the recipe and before the logs; checkpoints keep their states too.

    Raises:
        ValueError: With what to change in the recipe.
        FileNotFoundError: Data or weights are not there.
        ImportError: A package is missing; the text has the command that installs it.

    Example:
        state, task, hooks = build(load_recipe("configs/digits.yaml", ["model=idle_mbv3_small"]), out, Workers())
        resume(state, hooks, recipe)
        loop.train(state, task, hooks)
    """
    assert not recipe.stages, "of a recipe with stages each part is built for itself"
    ctx = workers.device()
    task, hooks = make_task(recipe.task, recipe.task_options), tuple(make_hooks(recipe.hooks))
    workers.progress("opening the data")
    data = open_data(data_settings(recipe), seed=recipe.seed, rank=workers.rank, world=workers.size)
    if not data.num_train:
        raise ValueError(f"{recipe.data.source} has no training images; it serves for evaluation alone (validate)")
    _check_together(recipe, task, data)
    precision = Precision(recipe.precision, ctx)
    workers.progress("making the network")
    net = _make_net(recipe, data, ctx)
    num_params, frozen = count_params(net), freeze(net, recipe.freeze)
    if start and workers.is_writer:
        net.load_parameters(str(start), ctx=ctx)
        difference = compare_names(net.classes, data.class_names)
        if difference:
            raise ValueError(f"{start} was trained with other classes: {difference}; --fresh starts over")
        net.card = _card(data, net.origin)
    elif (recipe.pretrained or recipe.model_options.get("pretrained_base")) and workers.is_writer:
        restore_statistics(net, data, ctx)
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
    trainer = workers.make_trainer(net, optimizer, recipe.distributed.compression, precision.scales_loss)
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
        frozen=frozenset(frozen),
        num_params=num_params,
    )
    extra = tuple(extra_hooks)
    exported_weights(recipe, (*hooks, *extra))  # which refuses what there will not be
    task.prepare(state, (*hooks, *extra))
    average = (AverageStatistics(),) if workers.size > 1 else ()
    skipped = SkippedUpdates(recipe.max_skipped_updates)
    service = (*average, Unpruned(), JsonLines(), Progress(), skipped, Watched())
    kept = (*hooks, *extra, *service)
    checkpoint = Checkpoint(kept, recipe.as_dict(), every=recipe.checkpoint_every, best_of=task.best_of)
    return Built(state, task, Hooks(hooks, extra, service, checkpoint))


def model_options(recipe: Recipe, data: Data) -> Dict[str, Any]:
    """Constructor options of the network: those of the recipe, and what follows from the data.

    Args:
        recipe: Its `model_options` go before.
        data: Decides `classes` and `in_channels`, and with small images the stride of the first convolution; a network
            from outside of the package, which may have no such option, keeps its own, and one with pretrained weights
            theirs. Of a detector it decides the classes alone.
    """
    if is_detector(recipe.model):
        channels = {} if data.in_channels == 3 else {"in_channels": data.in_channels}
        return {**channels, **recipe.model_options, "classes": data.class_names or data.num_classes}
    is_open = not (recipe.pretrained or is_foreign(recipe.model))
    small = {"stem_stride": 1} if data.image_size < SMALL_IMAGE and is_open else {}
    return {**small, **recipe.model_options, "classes": data.num_classes, "in_channels": data.in_channels}


def _check_together(recipe: Recipe, task: Task, data: Data) -> None:
    """Raise ValueError unless network, task and data are all for boxes or all for classes of images."""
    detects = is_detector(recipe.model)
    data.check_purpose(detects, recipe.model)
    if detects and not task.detects:
        raise ValueError(f"{recipe.model} is a detector, which task {recipe.task} does not train: set task=detection")
    if task.detects and not detects:
        raise ValueError(
            f"task {recipe.task} trains detectors, such as {list_detectors()[0]}, and {recipe.model} classifies "
            "images: set task=classification, or another model"
        )


def _make_net(recipe: Recipe, data: Data, ctx: mx.Context) -> Network:
    # Initializers draw from MXNet's global generator.
    mx.random.seed(recipe.seed)
    try:
        net = _make_detector(recipe, data, ctx) if is_detector(recipe.model) else _make_classifier(recipe, data, ctx)
    except TypeError as error:
        raise ValueError(f"model_options: {error}") from None
    if not recipe.pretrained:
        net.initialize(ctx=ctx)
    _take_classes(net, data, recipe.pretrained)
    # Whatever pretrained weights wanted, those of this run see these images.
    net.card = _card(data, net.origin)
    # Of static shapes MXNet's engine does not know when they change running statistics; on a CPU the loop waits for it.
    net.hybridize(static_alloc=True, static_shape=ctx.device_type == "cpu")
    return net


def _make_classifier(recipe: Recipe, data: Data, ctx: mx.Context) -> ClassificationNet:
    pretrained = recipe.pretrained and weights_path(recipe.model, recipe.pretrained)
    return get_model(recipe.model, pretrained=pretrained or False, ctx=ctx, **model_options(recipe, data))


def _make_detector(recipe: Recipe, data: Data, ctx: mx.Context) -> Detector:
    options = model_options(recipe, data)
    if not recipe.pretrained:
        net = get_detector(recipe.model, ctx=ctx, **options)
    elif "pretrained_base" in options:
        raise ValueError("pretrained are weights of the whole detector: leave model_options.pretrained_base out")
    else:
        net = load_detector(recipe.pretrained, ctx, name=recipe.model, **recipe.model_options)
    if net.image_size != data.image_size:
        size = f"images of {net.image_size} pixels"
        raise ValueError(f"data.image_size is {data.image_size}, and {recipe.model} takes {size}: set it to that")
    return net


def _card(data: Data, origin: Mapping[str, str]) -> Card:
    changed = {**origin, "changed": "trained further"} if origin else {}
    return Card(data.class_names, data.preprocessing, changed)


def _take_classes(net: Network, data: Data, pretrained: Optional[str]) -> None:
    """Let the classifier of pretrained weights, if it has names, answer in the classes of the data."""
    if net.classes is not None and data.class_names is None:
        log.warning("the classes of %s have no names; those in %s are left out", data.settings.source, pretrained)
    difference = compare_names(net.classes, data.class_names)
    if difference is None and net.num_classes == data.num_classes:
        return
    if net.reorder_classes(data.class_names or ()):
        log.warning("the classes of %s, %s: its classifier is put in the order of the data", pretrained, difference)
        return
    difference = difference or f"there were {net.num_classes}, now there are {data.num_classes}"
    log.warning("the classes of %s are others, %s: the classifier is new", pretrained, difference)
    net.reset_class(data.num_classes)


def resume(state: TrainState, hooks: Sequence[Hook], recipe: Recipe) -> None:
    """Go on from the last checkpoint of the run folder, if there is one, and say what is different from then.

    Args:
        state: Of `build`; weights, optimizer and place in the run become those of the checkpoint.
        hooks: Of the same call.
        recipe: Compared with that of the checkpoint.

    Raises:
        ValueError: The checkpoint is of another network, or of other classes.
    """
    state.workers.progress("looking for a checkpoint")
    run = load_last(state, hooks)
    if run is None:
        return
    say(state, f"resuming from update {state.update} of {state.total_updates}")
    for line in differences(run["recipe"], recipe.as_dict()):
        say(state, f"  changed since that checkpoint: {line}")
    if run["workers"] != state.workers.size:
        say(state, f"  changed since that checkpoint: workers {run['workers']} -> {state.workers.size}")
    operators = state.precision.operators
    if run.get("operators", operators) != operators:
        say(state, f"  changed since that checkpoint: operators {run['operators']} -> {operators}")
    if run["update"] != state.update:
        say(state, f"  the place in the run is kept in epochs: update {run['update']} -> {state.update}")


def say(state: TrainState, text: str) -> None:
    """Print a line, on worker 0 alone.

    Args:
        state: Of the run.
        text: The line.
    """
    if state.workers.is_writer:
        print(text, flush=True)
