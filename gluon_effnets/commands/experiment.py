"""The command `experiment`: networks trained to be compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .command import Command
from .options import table_format

if TYPE_CHECKING:
    from ..experiments import Experiment

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `experiment`."""
    parser.add_argument("name", nargs="?", help="The experiment, or its YAML file (default: list all).")
    parser.add_argument("--data", metavar="DIR", help="The folder of its data; not needed where the data need none.")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/experiments"),
        metavar="DIR",
        help="Where runs go (default: %(default)s).",
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="Other seeds than the experiment's.")
    parser.add_argument(
        "--only", nargs="+", metavar="NETWORK", help="Some of its networks alone, by their names in it."
    )
    parser.add_argument(
        "--side-by-side",
        type=int,
        default=1,
        metavar="N",
        help="Train N runs at a time, each on one thread (default: 1).",
    )
    parser.add_argument("--status", action="store_true", help="Show which runs are finished, and train nothing.")
    parser.add_argument(
        "--collect", metavar="DIR", type=Path, help="Write the finished runs into DIR: a JSON file, logs and a picture."
    )
    table_format(parser)


def run(args: argparse.Namespace) -> int:
    """List, train, show or collect; return the exit code."""
    from ..experiments import collect, experiment_table, jobs_of, list_experiments, read_experiment, run_queue
    from ..tables import Table

    if args.name is None:
        found = [read_experiment(name) for name in list_experiments()]
        rows = [[one.name, len(one.comparisons) * len(one.seeds), one.data, one.question] for one in found]
        print(Table(["experiment", "runs", "data", "question"], rows).written(args.format))
        return 0
    experiment = _chosen(read_experiment(args.name), args)
    if args.status:
        jobs = jobs_of(experiment, args.out)
        rows = [[job.comparison.name, job.seed, "finished" if job.finished else "not finished"] for job in jobs]
        print(Table(["network", "seed", "run"], rows).written(args.format))
        return 0
    if args.collect:
        content = collect(experiment, args.out, args.collect)
        print(experiment_table(content).written(args.format))
        return 0
    if args.side_by_side < 1:
        raise ValueError(f"--side-by-side {args.side_by_side}: at least one run trains at a time")
    return run_queue(experiment, _source(experiment, args), args.out, args.side_by_side)


def _chosen(experiment: Experiment, args: argparse.Namespace) -> Experiment:
    """The experiment with the seeds and networks that the arguments name."""
    if args.seeds:
        experiment = experiment._replace(seeds=tuple(args.seeds))
    if args.only:
        unknown = [name for name in args.only if name not in experiment.comparisons]
        if unknown:
            known = ", ".join(map(repr, experiment.comparisons))
            raise ValueError(f"{experiment.name} has no network {unknown[0]!r}; it has {known}")
        kept = {name: one for name, one in experiment.comparisons.items() if name in args.only}
        experiment = experiment._replace(comparisons=kept)
    return experiment


def _source(experiment: Experiment, args: argparse.Namespace) -> str:
    """What the runs read, with the first images alone where the experiment says so."""
    from ..experiments import first_images

    if args.data is None:
        if experiment.data not in ("digits", "synthetic", "scattered_digits"):
            raise ValueError(f"{experiment.name} needs {experiment.data} images: name their folder by --data DIR")
        return experiment.data
    folder = Path(args.data).resolve()
    if experiment.images:
        folder = first_images(folder, args.out.resolve() / experiment.name / "images", experiment.images)
    return f"{experiment.data}:{folder}"


COMMAND = Command(
    "experiment",
    "Train networks that are to be compared, several seeds each; the same command goes on after any stop.",
    add_arguments,
    run,
)
