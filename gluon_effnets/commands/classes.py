"""The command `classes`: the names of classes in the order of their labels."""

from __future__ import annotations

import argparse
import os

from .command import Command

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `classes`."""
    parser.add_argument(
        "source",
        metavar="LIST_OR_FOLDER",
        help="The list (.lst) that im2rec wrote, or the folder with a folder per class that it read.",
    )
    parser.add_argument("out", metavar="OUT", help="The text file to write, one name per line: DIR/classes.txt.")


def run(args: argparse.Namespace) -> None:
    """Write the file, and print how many names it has."""
    from ..class_names import names_of_folder, names_of_list, write_names

    is_folder = os.path.isdir(os.path.expanduser(args.source))
    names = (names_of_folder if is_folder else names_of_list)(args.source)
    write_names(names, args.out)
    print(f"{args.out}: {len(names)} classes, from {names[0]} to {names[-1]}")


COMMAND = Command(
    "classes",
    "Write the names of classes in the order in which im2rec numbers their folders.",
    add_arguments,
    run,
)
