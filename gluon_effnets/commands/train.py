"""The command `train`, and the command line of train_imagenet.py, which has the same arguments."""

from __future__ import annotations

import argparse
from typing import Optional, Sequence

from .command import Command, Parser
from .options import DATA_KINDS

__all__ = ["COMMAND", "main", "parse"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a training run."""
    parser.add_argument("--model", metavar="NAME", help="The model, see python -m gluon_effnets list.")
    recipes = "configs/<model>.<data>.yaml, <data>.yaml or <model>.yaml"
    parser.add_argument("--config", metavar="FILE", help=f"The recipe (default: the first that exists of {recipes}).")
    parser.add_argument("--data", metavar="KIND[:PATH]", help=f"The data: {DATA_KINDS} (default: as the recipe says).")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="Change a key of the recipe, e.g. optimizer.lr=0.1; it may be repeated.",
    )
    parser.add_argument("--hvd", action="store_true", help="Train with Horovod; start with horovodrun -np N.")
    parser.add_argument("--out", metavar="DIR", help="The run folder (default: runs/<model>.<recipe>).")
    parser.add_argument(
        "--restarts", type=int, default=0, metavar="N", help="Start again after a crash, at most N times (default: 0)."
    )
    parser.add_argument("--fresh", action="store_true", help="Delete the checkpoints of the run folder and start over.")


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; return the exit code."""
    # The trainer takes a second to import.
    from ..train.run import main

    return main(args)


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
