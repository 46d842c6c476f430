"""The command `table`: the tables of a paper, printed beside computed and measured."""

from __future__ import annotations

import argparse
import json

from .command import Command
from .options import table_format

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `table`."""
    parser.add_argument(
        "paper", help="The paper by its network: idleblock, mobilenext, condensenetv2, dsnet or shufflenet."
    )
    parser.add_argument("--number", type=int, metavar="N", help="Show this table alone (default: all of the paper).")
    table_format(parser, exact="csv takes one table")


def run(args: argparse.Namespace) -> None:
    """Print the tables, in text and Markdown each as soon as it is computed."""
    from ..paper_tables import computed_table, paper_tables

    tables = paper_tables(args.paper, args.number)
    if args.format == "csv":
        if len(tables) > 1:
            raise ValueError(f"--format csv takes one of the {len(tables)} tables: add --number N")
        print(computed_table(tables[0]).csv())
    elif args.format == "json":
        about = [{**table._asdict(), "rows": computed_table(table).records()} for table in tables]
        print(json.dumps(about, indent=1, ensure_ascii=False))
    else:
        space = "\n" if args.format == "markdown" else ""
        for table in tables:
            print(f"{table.heading}\n{space}{computed_table(table).written(args.format)}")
            print(f"{space}{table.note}\n" if table.note else "", flush=True)


COMMAND = Command(
    "table",
    "Show the tables of a paper: what was printed beside what is computed and was measured here.",
    add_arguments,
    run,
)
