"""A training run from the command line: recipe in, run folder out."""

from __future__ import annotations

import argparse
import faulthandler
import functools
import json
import logging
import platform
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import mxnet as mx
import yaml

from .. import __version__, _resources, native
from ..complexity import count, count_params
from ..models import get_model
from . import loop
from .checkpoint import Checkpoint, list_checkpoints, load_last
from .config import Recipe, differences, find_recipe, load_recipe
from .data import Data, open_data, parse_source
from .dist import Workers, start_workers
from .durations import to_updates
from .exit_codes import CRASHED, FINISHED, USER_ERROR, record_verdict, stopped
from .hooks import Hook, make_hooks
from .hooks.average_statistics import AverageStatistics
from .hooks.logs import JsonLines, NotFinite, Progress
from .hooks.sparsify import SPARSITY, Unpruned
from .hooks.watched import Watched
from .optim import base_learning_rate, make_optimizer
from .precision import Precision
from .report import RESULT, write_report
from .schedules import make_schedule
from .signals import Stopped, stop_signals
from .stages import run_stages
from .state import StagePlace, TrainState
from .supervise import supervise
from .tasks import Task, make_task

__all__ = ["build", "main", "model_options", "resume"]

log = logging.getLogger(__name__)

SMALL_IMAGE = 96  # below this side the first convolution keeps the resolution


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line of train_imagenet.py."""
    parser = argparse.ArgumentParser(
        prog="train_imagenet.py",
        description="Train a network by a recipe of configs/. The same command goes on with an interrupted run.",
    )
    parser.add_argument("--model", help="name, see python -m gluon_effnets list")
    parser.add_argument(
        "--config", help="recipe file; default: configs/<model>.<data>.yaml or <data>.yaml or <model>.yaml"
    )
    parser.add_argument("--data", help="KIND[:PATH]: recordio:DIR, folder:DIR, cifar10:DIR, digits, synthetic")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe, e.g. --set optimizer.lr=0.1 (may be repeated)",
    )
    parser.add_argument("--hvd", action="store_true", help="train with Horovod; start with horovodrun -np N")
    parser.add_argument("--out", help="run folder (default: runs/<model>.<recipe>)")
    parser.add_argument(
        "--restarts", type=int, default=0, metavar="N", help="start again after a crash, N times at most"
    )
    parser.add_argument("--fresh", action="store_true", help="delete the run folder's checkpoints and start over")
    return parser.parse_args(argv)


def read_recipe(args: argparse.Namespace) -> Tuple[Recipe, Path]:
    """Find and load the recipe the arguments name."""
    kind = parse_source(args.data).kind if args.data else None
    if not args.config and not args.model:
        raise ValueError("name a model (--model idle_mbv3) or a recipe (--config FILE)")
    path = Path(args.config) if args.config else find_recipe(args.model, kind)
    overrides = list(args.overrides)
    overrides += [f"model={json.dumps(args.model)}"] if args.model else []
    overrides += [f"data.source={json.dumps(args.data)}"] if args.data else []
    return load_recipe(path, overrides), path


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
    _say(state, f"resuming from update {state.update} of {state.total_updates}")
    for line in differences(run["recipe"], recipe.as_dict()):
        _say(state, f"  changed since that checkpoint: {line}")
    if run["workers"] != state.workers.size:
        _say(state, f"  changed since that checkpoint: workers {run['workers']} -> {state.workers.size}")
    if run.get("operators", state.operators) != state.operators:
        _say(state, f"  changed since that checkpoint: operators {run['operators']} -> {state.operators}")
    if run["update"] != state.update:
        _say(state, f"  the place in the run is kept in epochs: update {run['update']} -> {state.update}")


def _say(state: TrainState, text: str) -> None:
    if state.workers.is_writer:
        print(text, flush=True)


def _introduce(state: TrainState, recipe: Recipe, path: Path) -> None:
    cost = count(state.net, recipe.data.image_size)
    optimizer, world = recipe.optimizer, state.workers.size
    batch = recipe.data.batch_size * world * recipe.accumulate
    scaling = f" = {optimizer.lr:g} x {batch} / {optimizer.lr_for_batch}" if optimizer.lr_for_batch else ""
    _say(
        state,
        f"model     {recipe.model}: {state.num_params / 1e6:.3f} M parameters, {cost.madds / 1e6:.2f} M MAdds",
    )
    if recipe.data.image_size < SMALL_IMAGE and "stem_stride" not in recipe.model_options:
        _say(state, f"          stem stride 1, for images of {recipe.data.image_size} pixels")
    _say(state, f"data      {state.data.description}")
    _say(state, f"recipe    {path} -> {state.out / 'recipe.yaml'}")
    _say(
        state,
        f"batch     {batch} = {recipe.data.batch_size} x {world} worker(s) x {recipe.accumulate} accumulated",
    )
    _say(state, f"rate      {optimizer.name}, lr {state.base_lr:g}{scaling}")
    _say(state, f"duration  {state.total_updates} updates, {state.updates_per_epoch} per epoch, on {state.ctx}")
    could = state.ctx.device_type == "cpu" and recipe.precision == "float32" and not native.switched_off()
    if could and state.operators != "compiled":
        _say(state, "          MXNet's own operators; compiled ones are faster: python -m gluon_effnets native")


def _record(state: TrainState, recipe: Recipe) -> None:
    """Write the resolved recipe and the circumstances into the run folder."""
    if not state.workers.is_writer:
        return
    (state.out / "recipe.yaml").write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False))
    circumstances = {
        "command": sys.argv,
        "commit": _resources.commit(),
        "versions": {
            "gluon_effnets": __version__,
            "mxnet": mx.__version__,
            "python": platform.python_version(),
        },
        "operators": state.operators,
        "workers": state.workers.size,
        "lr": state.base_lr,
        "global_batch": recipe.data.batch_size * state.workers.size * recipe.accumulate,
    }
    (state.out / "run.json").write_text(json.dumps(circumstances, indent=1) + "\n")


def run(args: argparse.Namespace, workers: Workers) -> None:
    """Train, evaluate, export and report, as the arguments say. Raises Stopped if a signal ended it in between."""
    recipe, path = read_recipe(args)
    workers.set_timeout(recipe.distributed.timeout_s)
    out = Path(args.out or f"runs/{recipe.model}.{path.stem}")
    if workers.is_writer:
        out.mkdir(parents=True, exist_ok=True)
        if args.fresh:
            for name in recipe.split():
                _remove_checkpoints(out / name)
    if recipe.stages:
        run_stages(recipe, out, workers, build, functools.partial(_train, path=path))
    else:
        _train(recipe, out, workers, path=path)
    workers.finish()


def _train(
    recipe: Recipe,
    out: Path,
    workers: Workers,
    stage: StagePlace = StagePlace(),
    start: Optional[Path] = None,
    *,
    path: Path,
) -> None:
    """Run one recipe, or one stage, in its folder."""
    state, task, hooks = build(recipe, out, workers, stage, start)
    _introduce(state, recipe, path)
    resume(state, hooks, recipe)
    _record(state, recipe)
    try:
        loop.train(state, task, hooks)
    except Stopped:
        workers.finish()
        raise
    if workers.is_writer:
        write_report(state, recipe)


def _remove_checkpoints(out: Path) -> None:
    for folder in list_checkpoints(out):
        shutil.rmtree(folder)
    for name in ("log.jsonl", SPARSITY, RESULT):
        (out / name).unlink(missing_ok=True)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry of train_imagenet.py; returns the exit code. Users' mistakes are one message, not a trace."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    # MXNet's own handler of a crash says nothing about where it was.
    if not faulthandler.is_enabled():
        faulthandler.enable(sys.__stderr__)
    args = parse_arguments(argv)
    if args.restarts:
        return _supervise(args, sys.argv[1:] if argv is None else argv)
    workers = Workers()
    try:
        workers = start_workers(args.hvd)
        with stop_signals(workers.ask_to_stop):
            run(args, workers)
    except (Stopped, KeyboardInterrupt) as end:
        return _end_stopped(workers, end)
    except (ValueError, OSError, ImportError, NotFinite) as error:
        return workers.fail(str(error), USER_ERROR, error)
    except Exception as error:
        return workers.fail(traceback.format_exc(), CRASHED, error)
    return FINISHED


def _end_stopped(workers: Workers, end: BaseException) -> int:
    code = stopped(getattr(end, "signum", signal.SIGINT))
    if workers.is_writer:
        record_verdict(code)
        print(f"\n{end or 'stopped'}; the same command goes on from the last checkpoint", file=sys.stderr, flush=True)
    return code


def _supervise(args: argparse.Namespace, argv: Sequence[str]) -> int:
    if args.hvd:
        print(
            "error: with --hvd it is horovodrun that must be started again; leave --restarts out here:\n"
            f"python -m gluon_effnets.train.supervise --restarts {args.restarts} -- horovodrun ...",
            file=sys.stderr,
        )
        return USER_ERROR
    script = Path(sys.argv[0])
    program = ["-m", "gluon_effnets", "train"] if script.name == "__main__.py" else [str(script)]
    # Of two --restarts the last one counts.
    return supervise([sys.executable, *program, *argv, "--restarts", "0"], args.restarts)
