"""The command `compare-int8`: what 8 bits cost trained networks. It writes no files; `export --int8` does."""

from __future__ import annotations

import argparse

from ..tables import Table
from .command import Command
from .options import data_options, table_format, weights_help

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `compare-int8`."""
    parser.add_argument(
        "networks", nargs="+", metavar="NAME=WEIGHTS", help=weights_help("Models and their .params files")
    )
    data_options(parser)
    parser.add_argument(
        "--images",
        type=int,
        default=256,
        metavar="N",
        help="Number of training images that set the ranges of 8 bits (default: 256).",
    )
    parser.add_argument(
        "--mode",
        choices=("naive", "entropy"),
        default="naive",
        help="How MXNet finds the ranges (default: naive, from the smallest to the largest value).",
    )
    parser.add_argument(
        "--runtimes",
        nargs="+",
        choices=("mxnet", "onnxruntime", "openvino", "onnxruntime-nncf", "openvino-nncf"),
        help="Where to compare, also OpenVINO, and files that NNCF makes (default: MXNet and ONNX Runtime).",
    )
    parser.add_argument(
        "--onnx-python", metavar="PATH", help="The Python that has OpenVINO and NNCF (default: this one)."
    )
    table_format(parser, ("markdown", "text", "csv", "json"))


def run(args: argparse.Namespace) -> None:
    """Print a row per network, runtime and granularity."""
    from ..evaluate.int8_accuracy import QuantizedRow, int8_table
    from ..evaluate.validate import validate_in_8_bits
    from ..weights.conversion import weights_path

    files = dict(pair.partition("=")[::2] for pair in args.networks)
    files = {name: weights_path(name, weights) for name, weights in files.items()}
    rows = validate_in_8_bits(files, args.data, args.overrides, args.images, args.mode, args.runtimes, args.onnx_python)
    exact = args.format in ("csv", "json")
    print((Table(QuantizedRow._fields, rows) if exact else int8_table(rows)).written(args.format))


COMMAND = Command(
    "compare-int8",
    "Compare trained networks before and after 8-bit quantization: accuracy, agreement and size.",
    add_arguments,
    run,
    old_names=("quantize",),
)
