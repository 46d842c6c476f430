"""The command `convert`: official checkpoints to .params files."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import Command
from .options import condensing_options, network_options, read_options

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `convert`."""
    parser.add_argument("--model", required=True, metavar="NAME", help="The model, see python -m gluon_effnets list.")
    parser.add_argument(
        "checkpoint",
        help="The official file, or a folder RUN/checkpoints/update-N; with --condense also a .params file.",
    )
    parser.add_argument("out", help="The file to write: .params, or with --to another.")
    parser.add_argument("--ema", action="store_true", help="Take the averaged weights of the checkpoint.")
    parser.add_argument(
        "--source", help="Where the network is defined, if the checkpoint's keys do not tell, e.g. timm_tf."
    )
    parser.add_argument(
        "--to",
        metavar="IMPLEMENTATION",
        help="The way back: write a .params file with names of timm, torchvision, ... or our own (safetensors), into "
        "an OUT that ends in .safetensors, .npz or .pth.",
    )
    condensing_options(parser)
    network_options(parser)


def run(args: argparse.Namespace) -> None:
    """Convert, and print what was done."""
    from ..weights import convert

    if args.to:
        return _write_back(args)
    if Path(args.checkpoint).is_dir():
        return _convert_own(args)
    settings = {key: getattr(args, key) for key in ("ema", "source", "condense", "condense_classifier")}
    print(convert(args.model, args.checkpoint, args.out, **settings, **read_options(args.option)))


def _convert_own(args: argparse.Namespace) -> None:
    """Write the weights of a checkpoint folder of a training run."""
    from ..files.write import make_folder
    from ..models.condense import condense
    from ..train.checkpoint import load_network

    if args.source or args.option:
        raise ValueError("--source and --option are for official files; a checkpoint of a run knows its network")
    net = load_network(Path(args.checkpoint), args.ema)
    if net.identity["model"] != args.model:
        raise ValueError(f"{args.checkpoint} is of {net.identity['model']}, not of {args.model}")
    if args.condense or args.condense_classifier:
        net = condense(net, classifier=args.condense_classifier)
    make_folder(Path(args.out).parent)
    net.save_parameters(args.out)
    print(f"{args.out}: the {'averaged ' if args.ema else ''}weights of {args.checkpoint}")


def _write_back(args: argparse.Namespace) -> None:
    from .. import get_model
    from ..weights import write_official
    from ..weights.conversion import weights_path

    if args.source or args.ema or args.condense or args.condense_classifier:
        raise ValueError("--source, --ema and --condense do not go with --to")
    weights = weights_path(args.model, args.checkpoint)
    net = get_model(args.model, pretrained=weights, classes=None, **read_options(args.option))
    print(write_official(net, args.out, args.to))


COMMAND = Command(
    "convert",
    "Convert an official checkpoint (.pth, .pth.tar, .safetensors, .params) to a .params file.",
    add_arguments,
    run,
)
