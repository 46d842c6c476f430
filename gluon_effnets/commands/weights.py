"""The command `weights`: published weights of the models, and how to get them."""

from __future__ import annotations

import argparse
from typing import Any, List

from ..tables import Table
from .command import Command
from .options import table_format

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `weights`."""
    parser.add_argument("model", nargs="?", help="Only the weights of this model, each with the way to get them.")
    table_format(parser, exact="csv and json have all that is known")


def run(args: argparse.Namespace) -> None:
    """Print the table."""
    from .. import model_info
    from ..weights import published_weights

    rows = published_weights(model_info(args.model).name if args.model else None)
    if not rows:
        raise ValueError(f"no published weights of {args.model} are known; python -m gluon_effnets weights shows all")
    if args.format in ("csv", "json"):
        keys = list(rows[0]._fields)
        print(Table(keys, [tuple(row) for row in rows]).written(args.format))
        return
    shown: List[Any] = []
    for row in rows:
        here = row.here[-1] if row.here else {}
        published = row.published[0]["top1"] if row.published else ""
        shown.append((row.name, row.model, published, here.get("top1", ""), here.get("top5", ""), row.license))
    columns = ["weights", "model", "published top-1", "1,000 photographs", "top-5", "license"]
    print(Table(columns, shown).written(args.format))
    if args.model:
        for row in rows:
            print(f"\n{row.name}: {row.trained_by}\n  {row.how}")


COMMAND = Command("weights", "List published weights, what they reach, and how to get them.", add_arguments, run)
