"""The commands `benchmark train` and `benchmark data`: throughput of training, and of its data alone."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, List, Optional

from ..files.write import write_text
from .command import Command
from .options import settings_option

if TYPE_CHECKING:
    from ..train.config import Recipe

__all__ = ["DATA", "TRAIN"]


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `benchmark train`."""
    parser.add_argument("names", nargs="+", metavar="MODEL", help="Models, see python -m gluon_effnets list.")
    _add_common_arguments(parser, steps=10)
    parser.add_argument("--hvd", action="store_true", help="Measure N workers; start with horovodrun -np N.")
    parser.add_argument(
        "--no-torch",
        dest="with_torch",
        action="store_const",
        const=False,
        help="Leave PyTorch out even if it is installed.",
    )
    parser.add_argument(
        "--project",
        type=float,
        nargs="+",
        default=[],
        metavar="MS",
        help="Project the efficiency of many workers whose updates take MS without communication.",
    )
    parser.add_argument(
        "--project-workers",
        type=int,
        default=64,
        metavar="N",
        help="Number of workers in the projection (default: 64).",
    )
    parser.add_argument(
        "--latency-us",
        type=float,
        default=0.0,
        metavar="US",
        help="Microseconds that one message takes in the projection (default: 0).",
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `benchmark data`."""
    _add_common_arguments(parser, steps=20)
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="Values of data.num_threads to compare (default: the recipe's value).",
    )


def _add_common_arguments(parser: argparse.ArgumentParser, steps: int) -> None:
    parser.add_argument("--data", metavar="KIND[:PATH]", help="The data, as train takes them (default: synthetic).")
    parser.add_argument(
        "--config", metavar="FILE", help="A recipe whose data, optimizer, hooks and precision to measure."
    )
    parser.add_argument("--image-size", type=int, metavar="N", help="Side of the images (default: the recipe's value).")
    parser.add_argument(
        "--batch", type=int, metavar="N", help="Images per worker and step (default: the recipe's value)."
    )
    settings_option(parser, "Change a key of the recipe")
    parser.add_argument(
        "--steps",
        type=int,
        default=steps,
        metavar="N",
        help=f"Measured batches of every way and round (default: {steps}).",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        metavar="N",
        help="Rounds, in which all ways are measured in turn (default: 3).",
    )
    parser.add_argument("--json", metavar="FILE", help="Also write the measurements to a file.")


# Nesterov's SGD as in most recipes; 1000 classes, because the classifier is a quarter of what a small network sends.
_DEFAULTS = ("optimizer.lr=0.01", "optimizer.options={momentum: 0.9}")
_SYNTHETIC = ("data.augment=none", "data.classes=1000")


def _recipe(args: argparse.Namespace, model: Optional[str], workers: int = 1) -> Recipe:
    from ..train.config import load_recipe

    overrides = [] if args.config else list(_DEFAULTS)
    # A recipe names a model; the data do not need it.
    overrides += [f"model={json.dumps(model or 'none')}"]
    for key, value in (("image_size", args.image_size), ("batch_size", args.batch), ("source", args.data)):
        overrides += [f"data.{key}={json.dumps(value)}"] if value is not None else []
    if not (args.data or args.config):
        overrides += [f"data.source=synthetic:{2 * workers * (args.batch or 32)}", *_SYNTHETIC]
    return load_recipe(args.config, [*overrides, *args.overrides])


def run_train(args: argparse.Namespace) -> None:
    """Measure, print the tables and write the JSON file."""
    from ..benchmarks.projection import project
    from ..benchmarks.throughput import benchmark_train
    from ..benchmarks.throughput_tables import throughput_tables
    from ..train.dist import start_workers

    workers = start_workers(args.hvd)
    results: List[dict] = []
    for name in args.names:
        recipe = _recipe(args, name, workers.size)
        result = benchmark_train(
            recipe, steps=args.steps, rounds=args.rounds, workers=workers, with_torch=args.with_torch
        )
        volume = result["communication"]["bytes_per_update"]
        result["projection"] = [
            row
            for compute_ms in args.project
            for row in project(volume, compute_ms, args.project_workers, latency_us=args.latency_us)
        ]
        results.append(result)
        if workers.is_writer:
            print(throughput_tables(result) + "\n", flush=True)
    workers.finish()
    if workers.is_writer:
        _write(args.json, results)


def run_data(args: argparse.Namespace) -> None:
    """Measure, print the table and write the JSON file."""
    from ..benchmarks.throughput import benchmark_data
    from ..benchmarks.throughput_tables import throughput_tables

    settings = _recipe(args, None).data
    result = benchmark_data(settings, threads=args.threads, steps=args.steps, rounds=args.rounds)
    print(throughput_tables(result))
    _write(args.json, [result])


def _write(path: Optional[str], results: List[dict]) -> None:
    if path:
        write_text(path, json.dumps(results, indent=1) + "\n")


TRAIN = Command("train", "Measure the images/s of training, and where the time goes.", add_train_arguments, run_train)
DATA = Command("data", "Measure the images/s of the data without a network.", add_data_arguments, run_data)
