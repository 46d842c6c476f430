"""The command `doctor`: what is wrong with this installation and machine, and the line that cures it."""

from __future__ import annotations

import argparse
import json
from typing import Iterator

from ..tables import Table
from .command import Command
from .options import table_format

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    parser.add_argument(
        "--folder", default=".", metavar="DIR", help="A folder on the disk of the data (default: here)."
    )
    parser.add_argument(
        "--quick", action="store_true", help="Look at what is installed alone; train and measure nothing."
    )
    parser.add_argument("--json", metavar="FILE", help="Write what was found as JSON.")
    table_format(parser, exact="text is printed as things are found, others at the end")


def run(args: argparse.Namespace) -> int:
    """Print what is found as it is found; return 1 if something is wrong."""
    from ..doctor.finding import WRONG, Finding
    from ..files.write import write_text

    found = []
    for finding in _findings(args):
        found.append(finding)
        if args.format != "text":
            continue
        print(f"{finding.level:5}  {finding.subject}: {finding.found}", flush=True)
        if finding.cure:
            print(f"       cure: {finding.cure}", flush=True)
    if args.json:
        write_text(args.json, json.dumps([finding._asdict() for finding in found], indent=1) + "\n")
    number = sum(finding.level == WRONG for finding in found)
    if args.format == "text":
        print(f"{number} thing(s) wrong" if number else "nothing is wrong")
    else:
        print(Table(Finding._fields, found).written(args.format))
    return int(number > 0)


def _findings(args: argparse.Namespace) -> Iterator:
    from ..doctor.finding import ChildFailed
    from ..doctor.machine import disk, machine
    from ..doctor.software import gpus, software
    from ..doctor.training import decoding, exchange, steps

    try:
        shown = gpus()
    except ChildFailed:
        shown = []  # of which `software` speaks
    has_mxnet = True
    for finding in software():
        has_mxnet = has_mxnet and not (finding.subject == "MXNet" and finding.level == "wrong")
        yield finding
    yield from machine(shown)
    if args.quick:
        return
    yield disk(args.folder)
    if has_mxnet:
        yield from steps(len(shown))
        yield from decoding()
        yield from exchange(len(shown))


COMMAND = Command(
    "doctor", "Say what is wrong with this installation and machine, and what cures it.", add_arguments, run
)
