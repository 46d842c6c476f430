"""The command `report`: a page that tells a training run, or compares several."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import Command

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report`."""
    parser.add_argument("folder", nargs="+", metavar="RUN", help="Folders of finished runs; several are compared.")
    parser.add_argument("--out", metavar="FILE", help="The page (default: report.html, of one run in its folder).")
    parser.add_argument("--no-images", action="store_true", help="Leave classes and mistakes out: no evaluation.")


def run(args: argparse.Namespace) -> None:
    """Write the page, and print where it is."""
    from ..evaluate.run_page import REPORT, answers_of, compare_runs, read_run, run_page
    from ..evaluate.worst import write_page

    runs = [read_run(folder) for folder in args.folder]
    if len(runs) > 1:
        page, path = compare_runs(runs), Path(args.out or REPORT)
    else:
        page = run_page(runs[0], None if args.no_images else answers_of(runs[0]))
        path = Path(args.out or runs[0].folder / REPORT)
    write_page(page, path)
    print(path)


COMMAND = Command(
    "report",
    "Write a page about a training run: curves, classes, mistakes, costs; or compare runs.",
    add_arguments,
    run,
)
