"""The command `benchmark latency`: networks across runtimes."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import List, Sequence, Tuple

from ..models import SlimmableNet, get_model, model_info
from .command import Command
from .options import clock_option, network_options, read_options

__all__ = ["COMMAND"]

_PLACES = (
    "--torch-python",
    "--onnx-python",
    "--tvm-python",
    "--tvm-database",
    "--json",
    "--add-to",
    "--files",
    "--plot",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `benchmark latency`."""
    parser.add_argument(
        "names", nargs="+", metavar="NAME[:OPTION=VALUE,...]", help="Models, each with its own options."
    )
    parser.add_argument(
        "--runtimes",
        nargs="+",
        default=["mxnet-fused", "onnxruntime"],
        metavar="RUNTIME",
        help="Runtimes of docs/latency.md, or 'all' (default: mxnet-fused onnxruntime).",
    )
    parser.add_argument(
        "--image-size",
        type=_size,
        metavar="N|HxW",
        help="Size of the images (default: the largest of the models' own sizes).",
    )
    parser.add_argument(
        "--batch",
        type=_positive,
        nargs="+",
        default=[1],
        metavar="N",
        help="Numbers of images in a batch (default: 1).",
    )
    parser.add_argument(
        "--threads", type=_positive, nargs="+", metavar="N", help="Numbers of threads (default: OMP_NUM_THREADS, or 1)."
    )
    parser.add_argument(
        "--repeats", type=_positive, default=20, metavar="N", help="Repetitions of each row (default: 20)."
    )
    parser.add_argument(
        "--forms",
        nargs="+",
        choices=("auto", "grouped", "dense", "pieces"),
        default=["auto"],
        help="Forms of ShuffleNets in mxnet-aligned and onnxruntime-aligned (default: auto).",
    )
    clock_option(parser)
    parser.add_argument(
        "--memory", action="store_true", help="Also measure the peak of the memory, each row in a process of its own."
    )
    parser.add_argument("--baseline", metavar="NAME", help="Compare the other networks with this one of them.")
    parser.add_argument("--json", metavar="FILE", help="Also write all rows with their conditions to a file.")
    parser.add_argument(
        "--add-to",
        metavar="DIR",
        help="Also add the measurement to the file of this processor in a folder: DIR/PROCESSOR.json.",
    )
    parser.add_argument(
        "--files", metavar="DIR", help="Keep the files of the networks here, and take those that lie here as they are."
    )
    parser.add_argument("--plot", metavar="FILE.png", help="Also draw cost and published accuracy against latency.")
    parser.add_argument("--torch-python", metavar="PATH", help="The Python that has PyTorch (default: this one).")
    parser.add_argument(
        "--onnx-python",
        metavar="PATH",
        help="The Python that has ONNX Runtime and OpenVINO, for our files and PyTorch's alike (default: this one).",
    )
    parser.add_argument("--tvm-python", metavar="PATH", help="The Python that has TVM (default: this one).")
    parser.add_argument("--tvm-database", metavar="DIR", help="Use the tuning of earlier compilations in this folder.")
    network_options(parser)


def run(args: argparse.Namespace) -> None:
    """Measure, print the tables, and write the files that are asked for."""
    from ..benchmarks.latency import LATENCY_RUNTIMES, Settings, add_run, draw_latency, latency_tables, measure
    from ..files.write import write_text

    for path in (args.json, args.plot, *(Path(folder) / "FILE" for folder in (args.add_to, args.files) if folder)):
        if path and not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(f"no folder for {path}: make it first")
    nets = {text: _net(text, args.option) for text in args.names}
    largest = max(model_info(text.partition(":")[0]).input_size for text in nets)
    settings = Settings(
        runtimes=list(LATENCY_RUNTIMES) if "all" in args.runtimes else args.runtimes,
        image_size=args.image_size or (largest, largest),
        batches=args.batch,
        threads=args.threads or [int(os.environ.get("OMP_NUM_THREADS", 1))],
        repeats=args.repeats,
        forms=args.forms,
        clock="processor" if args.processor_time else "wall",
        memory=args.memory,
        pythons={
            "torch": args.torch_python,
            "tvm": args.tvm_python,
            "onnxruntime": args.onnx_python,
            "openvino": args.onnx_python,
        },
        baseline=args.baseline,
        files=args.files,
        tvm_database=args.tvm_database,
    )
    result = measure(nets, settings)
    result["conditions"]["command"] = _command(sys.argv[1:])
    for line in result["left_out"]:
        print(line, file=sys.stderr, flush=True)
    print(latency_tables(result))
    if args.json:
        write_text(args.json, json.dumps(result, indent=1) + "\n")
    if args.add_to:
        print(f"added to {add_run(args.add_to, result)}")
    if args.plot:
        draw_latency(result, args.plot)


def _net(text: str, options: Sequence[str]):
    """The network; with the option `width` of slimmable ones this sub-network."""
    name, _, own = text.partition(":")
    chosen = read_options([*options, *(own.split(",") if own else [])])
    width = chosen.pop("width", None)
    net = get_model(name, **chosen)
    if width is None:
        return net
    if not isinstance(net, SlimmableNet):
        raise ValueError(f"{name} is not slimmable, so it has no width: leave :width={width} away")
    return net.subnet(width)


def _command(arguments: List[str]) -> str:
    """The command to repeat; where things lie on this machine is nobody else's business."""
    shown = list(arguments)
    for place, word in enumerate(shown[1:], 1):
        if shown[place - 1] in _PLACES:
            shown[place] = Path(word).name
    return shlex.join(["python", "-m", "gluon_effnets", *shown])


def _size(text: str) -> Tuple[int, int]:
    """'224' or '480x640' as height and width."""
    height, _, width = text.partition("x")
    return _positive(height), _positive(width or height)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


COMMAND = Command(
    "latency", "Time networks in several runtimes, in turn, each runtime in its own process.", add_arguments, run
)
