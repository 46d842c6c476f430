"""The command `train`, and the command line of train_imagenet.py, which has the same arguments."""

from __future__ import annotations

import argparse
import logging
import os
from typing import Optional, Sequence

from ..files.mistakes import sentence
from .command import Command, Parser
from .options import DATA_KINDS, settings_option

__all__ = ["COMMAND", "main", "parse"]

log = logging.getLogger(__name__)

_MOST_IMAGES = 20_000  # of an evaluation that a run of a CPU may end with once more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a training run."""
    parser.add_argument("--model", metavar="NAME", help="The model, see python -m gluon_effnets list.")
    recipes = "configs/<model>.<data>.yaml, <data>.yaml or <model>.yaml"
    parser.add_argument("--config", metavar="FILE", help=f"The recipe (default: the first that exists of {recipes}).")
    parser.add_argument("--data", metavar="KIND[:PATH]", help=f"The data: {DATA_KINDS} (default: as the recipe says).")
    settings_option(parser, "Change a key of the recipe, e.g. optimizer.lr=0.1")
    parser.add_argument("--hvd", action="store_true", help="Train with Horovod; start with horovodrun -np N.")
    parser.add_argument("--out", metavar="DIR", help="The run folder (default: runs/<model>.<recipe>).")
    parser.add_argument(
        "--restarts", type=int, default=0, metavar="N", help="Start again after a crash, at most N times (default: 0)."
    )
    parser.add_argument("--fresh", action="store_true", help="Delete the checkpoints of the run folder and start over.")


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; return the exit code."""
    # The trainer takes a second to import.
    from ..train.exit_codes import FINISHED, is_supervised
    from ..train.run import main

    code = main(args)
    is_writer = os.environ.get("HOROVOD_RANK", "0") == "0" and (is_supervised() or not args.restarts)
    if code == FINISHED and is_writer:
        _write_page(args)
    return code


def _write_page(args: argparse.Namespace) -> None:
    """Leave a page about the run; what stands against it is told and costs nothing else."""
    from ..evaluate.run_page import REPORT, answers_of, read_run, run_page
    from ..evaluate.worst import write_page
    from ..train.run import read_recipe, run_folder

    recipe, path = read_recipe(args)
    if not recipe.report_page:
        return
    page = run_folder(args, recipe, path) / REPORT
    try:
        run = read_run(page.parent)
        answered = answers_of(run) if run.result.get("images", 0) <= _MOST_IMAGES else None
        write_page(run_page(run, answered), page)
        print(f"report             {page}")
    except Exception as error:
        log.warning("no page about the run was written: %s", sentence(error))


COMMAND = Command(
    "train",
    "Train a network by a recipe; the same command goes on with an interrupted run.",
    add_arguments,
    run,
)


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The arguments of train_imagenet.py, by default of this process."""
    parser = Parser(prog="train_imagenet.py", description=COMMAND.help)
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run train_imagenet.py; return the exit code."""
    return run(parse(argv))
