"""The command `native`: the operators for training and inference on a CPU, compiled for this processor."""

from __future__ import annotations

import argparse
import time

from .command import Command

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `native`."""
    parser.add_argument("--compiler", metavar="CXX", help="A C++ compiler with OpenMP (default: $CXX, g++ or clang++).")
    parser.add_argument("--force", action="store_true", help="Compile also if they are compiled already.")


def run(args: argparse.Namespace) -> None:
    """Compile, unless it is done, and print where the library lies."""
    from .. import native

    path = native.library()
    if path.is_file() and not (args.force or args.compiler):
        print(f"compiled for this processor already: {path}")
    else:
        begin = time.perf_counter()
        native.build(args.compiler)
        print(f"compiled and tried in {time.perf_counter() - begin:.0f} s: {path}")
    if native.switched_off():
        print(f"{native.SWITCH}=0 in the environment keeps them from being used")


COMMAND = Command(
    "native", "Compile operators that make training and MXNet's exports faster on a CPU.", add_arguments, run
)
