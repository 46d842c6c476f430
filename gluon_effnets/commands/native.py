"""The command `python -m gluon_effnets native`: the operators for training on a CPU, compiled for this processor."""

from __future__ import annotations

import argparse
import time
from typing import Callable

__all__ = ["add_native"]


def add_native(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; `command(name, function, help)` makes a parser that calls `function(args)`."""
    added = command("native", _native, "compile the operators that make training on a CPU faster")
    added.add_argument("--compiler", metavar="CXX", help="a C++ compiler with OpenMP (default: $CXX, g++ or clang++)")
    added.add_argument("--force", action="store_true", help="compile also if they are there")


def _native(args) -> None:
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
