"""Constructor options of networks on the command line."""

from __future__ import annotations

import argparse
from typing import Any, Dict, Sequence

import yaml

__all__ = ["condensing_options", "network_options", "read_options"]


def network_options(command: argparse.ArgumentParser) -> None:
    """Add --option to a command; `read_options(args.option)` gives its values."""
    text = "constructor option, e.g. bn_epsilon=1e-3 (may be repeated)"
    command.add_argument("--option", "-o", action="append", default=[], metavar="NAME=VALUE", help=text)


def read_options(pairs: Sequence[str]) -> Dict[str, Any]:
    """Turn ['bn_epsilon=1e-3', ...] into constructor options; values are read as YAML.

    Raises ValueError for a text without '='.
    """
    options = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator:
            raise ValueError(f"--option {pair!r} is not of the form name=value")
        value = yaml.safe_load(text)
        try:
            # YAML 1.1 takes 1e-3 for a text.
            options[key] = float(value) if isinstance(value, str) else value
        except ValueError:
            options[key] = value
    return options


def condensing_options(added: argparse.ArgumentParser) -> None:
    """Add the options that turn a pruned CondenseNet into its inference form."""
    added.add_argument("--condense", action="store_true", help="the inference form of a pruned CondenseNet")
    added.add_argument("--condense-classifier", action="store_true",
                       help="that, with half of the classifier's inputs, as CondenseNet's authors do")  # fmt: skip
