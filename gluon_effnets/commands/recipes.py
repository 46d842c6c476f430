"""The command `recipes`: the recipes that come with the package."""

from __future__ import annotations

import argparse
import re

from .. import _resources
from ..files.regular import read_text
from ..tables import Table, natural_order
from .command import Command
from .options import table_format

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recipes`."""
    parser.add_argument("name", nargs="?", help="A recipe to show, by its file's name (default: list all).")
    table_format(parser)


def run(args: argparse.Namespace) -> None:
    """List the recipes, or print one."""
    paths = sorted(_resources.folder("configs").glob("*.yaml"), key=lambda path: natural_order(path.name))
    if args.name is None:
        rows = [[path.name, _summary(read_text(path))] for path in paths]
        print(Table(["recipe", "what it is"], rows).written(args.format))
        return
    name = args.name if args.name.endswith(".yaml") else f"{args.name}.yaml"
    if name not in {path.name for path in paths}:
        raise ValueError(f"no recipe {name!r}; python -m gluon_effnets recipes lists all")
    print(read_text(_resources.folder("configs") / name), end="")


def _summary(text: str) -> str:
    """The whole sentences of a recipe's first line; what it begins and does not end is left out."""
    line = text.split("\n", 1)[0].lstrip("# ")
    ends = [found.end() for found in re.finditer(r"[.)](?= [A-Z]|$)", line)]
    return line[: ends[-1]] if ends else line


COMMAND = Command("recipes", "List the recipes, which --config takes by their names, or show one.", add_arguments, run)
