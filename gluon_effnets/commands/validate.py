"""The command `validate`: accuracy of weights."""

from __future__ import annotations

import argparse
from typing import Any

from .. import model_info
from ..tables import Table
from .command import Command
from .options import data_options, network_options, read_options, table_format, weights_help

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `validate`."""
    parser.add_argument("name", help="The model, see python -m gluon_effnets list.")
    parser.add_argument("weights", help=weights_help("Its .params file"))
    data_options(parser)
    parser.add_argument(
        "--widths",
        type=_widths,
        metavar="all|ends|dynamic|0,3,...",
        help="Score a slimmable network at each of these widths, or routed by its gate (dynamic).",
    )
    table_format(parser)
    network_options(parser)


def run(args: argparse.Namespace) -> None:
    """Print the scores, and on ImageNet what was published beside them."""
    from ..evaluate.validate import is_imagenet, open_pair, scores_of
    from ..weights.conversion import weights_path

    args.weights = weights_path(args.name, args.weights)
    net, data = open_pair(args.name, args.weights, args.data, args.overrides, read_options(args.option))
    scores = scores_of(net, data, args.weights, args.widths)
    if args.format in ("csv", "json"):
        print(Table(list(scores), [list(scores.values())]).written(args.format))
        return
    digits = {"mean_madds": 0, "loss": 4}
    as_numbers = {key: f"{scores.pop(key):,.{digits[key]}f}" for key in digits if key in scores}
    rows = [*((key, f"{value:.3%}") for key, value in scores.items()), *as_numbers.items()]
    table = Table(["score", "value"], rows)
    print(table.text(header=False) if args.format == "text" else table.markdown() + "\n")
    for row in model_info(args.name).published if is_imagenet(args.name, data) else ():
        if "top-1" in row["what"]:
            print(f"published: {row['what']} {row['value']} ({row['source']})")


def _widths(text: str) -> Any:
    """A word, or '0,3,largest' as a list."""
    names = [int(part) if part.isdigit() else part for part in text.split(",")]
    return text if names == [text] and text != "largest" else names


COMMAND = Command(
    "validate", "Measure the accuracy of weights on the evaluation images of a data set.", add_arguments, run
)
