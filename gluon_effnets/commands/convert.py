"""The command `convert`: official checkpoints to .params files."""

from __future__ import annotations

import argparse

from .command import Command
from .options import condensing_options, network_options, read_options

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `convert`."""
    parser.add_argument("--model", required=True, metavar="NAME", help="The model, see python -m gluon_effnets list.")
    parser.add_argument("checkpoint", help="The official file; with --condense also a .params file of this package.")
    parser.add_argument("out", help="The .params file to write.")
    parser.add_argument("--ema", action="store_true", help="Take the averaged weights of the checkpoint.")
    parser.add_argument(
        "--source", help="Where the network is defined, if the checkpoint's keys do not tell, e.g. timm_tf."
    )
    condensing_options(parser)
    network_options(parser)


def run(args: argparse.Namespace) -> None:
    """Convert, and print what was done."""
    from ..weights import convert

    settings = {key: getattr(args, key) for key in ("ema", "source", "condense", "condense_classifier")}
    print(convert(args.model, args.checkpoint, args.out, **settings, **read_options(args.option)))


COMMAND = Command(
    "convert",
    "Convert an official checkpoint (.pth, .pth.tar, .safetensors, .params) to a .params file.",
    add_arguments,
    run,
)
