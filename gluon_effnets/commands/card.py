"""The command `card`: the model card of an exported network."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import Command

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `card`."""
    parser.add_argument("description", metavar="EXPORTED.json", help="The JSON file that export wrote.")
    parser.add_argument("out", nargs="?", metavar="OUT.md", help="Write the card there (default: to standard output).")


def run(args: argparse.Namespace) -> None:
    """Print or write the card."""
    from ..deploy.model_card import model_card
    from ..files.write import write_text

    text = model_card(args.description)
    if args.out is None:
        print(text, end="")
    else:
        write_text(Path(args.out).expanduser(), text)
        print(args.out)


COMMAND = Command("card", "Write the model card of an exported network: Markdown below YAML.", add_arguments, run)
