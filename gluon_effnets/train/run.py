"""A training run from the command line: recipe in, run folder out."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import faulthandler
import functools
import json
import logging
import platform
import shutil
import signal
import socket
import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Callable, Dict, Optional, Tuple

import mxnet as mx
import numpy as np
import yaml

from .. import __version__, _resources, native
from ..complexity import count
from ..files.folders import not_left_empty
from ..files.locks import alone_in
from ..files.mistakes import as_mistakes, sentence
from ..files.write import make_folder, write_text
from ..timing import machine
from . import loop
from .build import build, model_options, resume, say
from .checkpoint import list_checkpoints
from .config import Recipe, find_recipe, load_recipe, recipe_path
from .data import parse_source
from .dist import Workers, start_workers
from .exit_codes import CRASHED, FINISHED, USER_ERROR, is_supervised, record_verdict, stopped
from .hooks.sparsify import SPARSITY
from .not_finite import NotFinite
from .parts import set_rates
from .report import RESULT, write_report, write_stage_result
from .signals import Stopped, stop_signals
from .stages import run_stages
from .state import StagePlace, TrainState
from .supervise import supervise

__all__ = ["main", "read_recipe", "run_folder"]

log = logging.getLogger(__name__)

_RESTART_PATIENCE_S = 20.0
_RECIPE, _CIRCUMSTANCES, _HELD_OUT = "recipe.yaml", "run.json", "held_out.txt"


def read_recipe(args: argparse.Namespace) -> Tuple[Recipe, Path]:
    """Find and load the recipe the arguments name."""
    kind = parse_source(args.data).kind if args.data else None
    if not args.config and not args.model:
        raise ValueError("name a model (--model idle_mbv3) or a recipe (--config FILE)")
    path = recipe_path(args.config) if args.config else find_recipe(args.model, kind)
    overrides = list(args.overrides)
    overrides += [f"model={json.dumps(args.model)}"] if args.model else []
    overrides += [f"data.source={json.dumps(args.data)}"] if args.data else []
    return load_recipe(path, overrides), path


def run_folder(args: argparse.Namespace, recipe: Recipe, path: Path) -> Path:
    """The folder of a run with these arguments, whose recipe is of `path`."""
    return Path(args.out or f"runs/{recipe.file_name}.{path.stem}")


def _introduce(state: TrainState, recipe: Recipe, path: Path) -> None:
    cost = count(state.net, recipe.data.image_size)
    optimizer, world = recipe.optimizer, state.workers.size
    batch = recipe.data.batch_size * world * recipe.accumulate
    scaling = f" = {optimizer.lr:g} x {batch} / {optimizer.lr_for_batch}" if optimizer.lr_for_batch else ""
    say(
        state,
        f"model     {recipe.model}: {state.num_params / 1e6:.3f} M parameters, {cost.madds / 1e6:.2f} M MAdds",
    )
    if "stem_stride" in model_options(recipe, state.data).keys() - recipe.model_options.keys():
        say(state, f"          stem stride 1, for images of {recipe.data.image_size} pixels")
    say(state, f"data      {state.data.description}")
    say(state, f"recipe    {path} -> {state.out / _RECIPE}")
    say(
        state,
        f"batch     {batch} = {recipe.data.batch_size} x {world} worker(s) x {recipe.accumulate} accumulated",
    )
    say(state, f"rate      {optimizer.name}, lr {state.base_lr:g}{scaling}")
    if optimizer.lr_factors:
        rates = set_rates(state.net, optimizer.lr_factors).items()
        factors = [f"{pattern} x {optimizer.lr_factors[pattern]:g} ({number} parameters)" for pattern, number in rates]
        say(state, f"          {', '.join(factors)}")
    if state.frozen:
        params = state.net._collect_params_with_prefix()
        layers = sum(name.endswith("running_mean") for name in state.frozen)
        kept = sum(params[name].data().size for name in state.frozen if "running_" not in name)
        say(state, f"frozen    {kept:,} parameters, and the statistics of {layers} BN layers")
    say(state, f"duration  {state.total_updates} updates, {state.updates_per_epoch} per epoch, on {state.ctx}")
    could = state.ctx.device_type == "cpu" and recipe.precision == "float32" and not native.switched_off()
    if could and state.precision.operators != "compiled":
        say(state, "          MXNet's own operators; compiled ones are faster: python -m gluon_effnets native")


def _record(state: TrainState, recipe: Recipe) -> None:
    """Write the resolved recipe and the circumstances into the run folder."""
    if not state.workers.is_writer:
        return
    write_text(state.out / _RECIPE, yaml.safe_dump(recipe.as_dict(), sort_keys=False))
    if state.data.held_out is not None:
        write_text(state.out / _HELD_OUT, "".join(f"{path}\n" for path in state.data.held_out))
    circumstances = {
        "command": sys.argv,
        "commit": _resources.commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        **machine(),
        "device": str(state.ctx),
        "versions": _versions(),
        "operators": state.precision.operators,
        "workers": state.workers.size,
        "lr": state.base_lr,
        "global_batch": recipe.data.batch_size * state.workers.size * recipe.accumulate,
    }
    write_text(state.out / _CIRCUMSTANCES, json.dumps(circumstances, indent=1) + "\n")


def _versions() -> Dict[str, Optional[str]]:
    """Versions of what computes; None for a package that is not installed."""
    versions: Dict[str, Optional[str]] = {"gluon_effnets": __version__, "python": platform.python_version()}
    for name, module in (("mxnet", mx), ("numpy", np)):
        versions[name] = module.__version__
    try:
        versions["horovod"] = metadata.version("horovod")
    except metadata.PackageNotFoundError:
        versions["horovod"] = None
    return versions


def run(args: argparse.Namespace, workers: Workers) -> None:
    """Train, evaluate, export and report, as the arguments say.

    Raises:
        Stopped: A signal ended it in between.
    """
    with as_mistakes("the recipe cannot be read"):
        recipe, path = read_recipe(args)
    workers.set_timeout(recipe.distributed.timeout_s)
    out = run_folder(args, recipe, path)

    with contextlib.ExitStack() as stack:
        if workers.is_writer:
            # Hooks may refuse a recipe when all has been written down.
            stack.enter_context(not_left_empty(out, but_for=(_RECIPE, _CIRCUMSTANCES)))

        def begin() -> None:
            # Not before the recipe has been found right: a mistake must neither leave an empty folder nor cost
            # checkpoints.
            if workers.is_writer:
                make_folder(out)
                # What a supervisor starts again may be there before the last of its processes is gone.
                stack.enter_context(alone_in(out, _RESTART_PATIENCE_S if is_supervised() else 0))
                for name in recipe.split() if args.fresh else ():
                    _remove_checkpoints(out / name)

        if recipe.stages:
            run_stages(recipe, out, workers, build, begin, functools.partial(_train, path=path))
        else:
            _train(recipe, out, workers, path=path, begin=begin)
        workers.finish()


def _train(
    recipe: Recipe,
    out: Path,
    workers: Workers,
    stage: StagePlace = StagePlace(),
    start: Optional[Path] = None,
    *,
    path: Path,
    begin: Callable[[], None] = lambda: None,
) -> None:
    """Run one recipe, or one stage, in its folder, which is there after `begin`."""
    with as_mistakes(f"{path}, in {out}"):
        state, task, hooks = build(recipe, out, workers, stage, start)
        _introduce(state, recipe, path)
        begin()
        resume(state, hooks, recipe)
        _record(state, recipe)
    workers.progress("before its first update")
    try:
        loop.train(state, task, hooks)
    except Stopped:
        workers.finish()
        raise
    if workers.is_writer:
        workers.progress("in the report")
        if stage.is_last:
            write_report(state, recipe, hooks)
        else:
            write_stage_result(state, recipe)


def _remove_checkpoints(out: Path) -> None:
    for folder in list_checkpoints(out):
        shutil.rmtree(folder)
    for name in ("log.jsonl", SPARSITY, RESULT):
        (out / name).unlink(missing_ok=True)


def main(args: argparse.Namespace) -> int:
    """A training run, or with --restarts several; returns the exit code. Users' mistakes are one message, not a trace.

    `args` are the arguments of the command `train`, parsed.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    # MXNet's own handler of a crash says nothing about where it was.
    if not faulthandler.is_enabled() and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    workers = Workers()
    try:
        if args.restarts:
            return _supervise(args)
        workers = start_workers(args.hvd)
        with stop_signals(workers.ask_to_stop):
            run(args, workers)
    except (Stopped, KeyboardInterrupt) as end:
        return _end_stopped(workers, end)
    except (ValueError, OSError, ImportError, NotFinite) as error:
        return workers.fail(sentence(error), USER_ERROR, error)
    except Exception as error:
        return workers.fail(traceback.format_exc(), CRASHED, error)
    return FINISHED


def _end_stopped(workers: Workers, end: BaseException) -> int:
    code = stopped(getattr(end, "signum", signal.SIGINT))
    if workers.is_writer:
        record_verdict(code)
        print(f"\n{end or 'stopped'}; the same command goes on from the last checkpoint", file=sys.stderr, flush=True)
    return code


def _supervise(args: argparse.Namespace) -> int:
    if args.hvd:
        print(
            "error: with --hvd it is horovodrun that must be started again; leave --restarts out here:\n"
            f"python -m gluon_effnets.train.supervise --restarts {args.restarts} -- horovodrun ...",
            file=sys.stderr,
        )
        return USER_ERROR
    script, *words = sys.argv
    program = ["-m", "gluon_effnets"] if Path(script).name == "__main__.py" else [script]
    # Of two --restarts the last one counts.
    return supervise([sys.executable, *program, *words, "--restarts", "0"], args.restarts)
