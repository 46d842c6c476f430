"""The commands `benchmark idle-forms`, `layout`, `shortcut`, ...: variants of networks and of methods, side by side."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Dict, List, Sequence, Union

from ..models import get_model
from .command import Command
from .options import clock, clock_option, network_options, read_options, table_format

__all__ = ["COMMANDS"]

# What the comparisons say that always count processor time.
_ONE_THREAD = "(processor time; set OMP_NUM_THREADS=1)"


def _name(parser: argparse.ArgumentParser, default: Union[str, Sequence[str]]) -> None:
    """Add the argument `name`, or `names` if the default has several."""
    if isinstance(default, str):
        parser.add_argument("name", nargs="?", default=default, help=f"The model (default: {default}).")
    else:
        text = f"The models (default: {' '.join(default)})."
        parser.add_argument("names", nargs="*", default=default, metavar="NAME", help=text)


def _repeats(parser: argparse.ArgumentParser, default: int, note: str = "") -> None:
    text = f"Repetitions, all in turn{note} (default: {default})."
    parser.add_argument("--repeats", type=int, default=default, metavar="N", help=text)


def _image_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="Side of the images (default: the model's own size)."
    )


def _add_idle(parser: argparse.ArgumentParser) -> None:
    _name(parser, "idle_mbv3")
    parser.add_argument(
        "--baseline",
        default="mobilenet_v3_large",
        metavar="NAME",
        help="The model to compare with (default: mobilenet_v3_large).",
    )
    _repeats(parser, 10)


def _run_idle(args: argparse.Namespace) -> None:
    from ..benchmarks.idle_variants import compare_variants, variants_table

    print(variants_table(compare_variants(args.name, args.baseline, args.repeats)))


def _add_layout(parser: argparse.ArgumentParser) -> None:
    _name(parser, ["shufflenet_v1_g3_x1_0", "shufflenet_v1_g8_x1_0"])
    _repeats(parser, 5)


def _run_layout(args: argparse.Namespace) -> None:
    from ..benchmarks.memory_layouts import compare_layouts, variants_table
    from ..timing import conditions, conditions_line

    print(f"{variants_table(compare_layouts(args.names, args.repeats))}\n\n{conditions_line(conditions())}")


def _add_shortcut(parser: argparse.ArgumentParser) -> None:
    _name(parser, "mobilenext_x1_0")
    parser.add_argument(
        "--divisors",
        type=int,
        nargs="+",
        default=[1, 2, 3, 6],
        metavar="N",
        help="Identity divisors: 1/N of the channels are added (default: 1 2 3 6).",
    )
    _repeats(parser, 20)


def _run_shortcut(args: argparse.Namespace) -> None:
    from ..benchmarks.shortcut_variants import compare_shortcuts, shortcuts_table

    print(shortcuts_table(compare_shortcuts(args.name, args.divisors, repeats=args.repeats)))


def _add_shuffle(parser: argparse.ArgumentParser) -> None:
    cases = ("idle", "idle_per_block", "shufflenet")
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=cases,
        default=cases,
        metavar="CASE",
        help=f"Of {', '.join(cases)} (default: all).",
    )
    _image_size(parser)
    _repeats(parser, 20)
    table_format(parser)
    clock_option(parser)


def _run_shuffle(args: argparse.Namespace) -> None:
    from ..benchmarks.shuffles import compare_shuffles, shuffles_table

    rows = compare_shuffles(tuple(args.networks), args.image_size or 224, args.repeats, clock(args))
    table = shuffles_table(rows).written(args.format)
    if args.format in ("csv", "json"):
        print(table)
    else:
        _print_with_conditions(table, f"one image, {args.repeats} repetitions in turn")


def _add_condense(parser: argparse.ArgumentParser) -> None:
    _name(parser, ["condensenet_v2_a", "condensenet_v2_b", "condensenet_v2_c"])
    _image_size(parser)
    _repeats(parser, 20)
    clock_option(parser)
    parser.add_argument(
        "--torch-python",
        metavar="PATH",
        help="Time the files for ONNX Runtime and OpenVINO alone, in this Python, beside the network that is written "
        "in PyTorch and exported there. It needs torch, onnxscript, and onnxruntime or openvino.",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="Images, with --torch-python (default: 1).")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="Threads, with --torch-python (default: 1)."
    )


def _run_condense(args: argparse.Namespace) -> None:
    if args.torch_python:
        _run_runtimes(args)
        return
    if (args.batch, args.threads) != (1, 1):
        raise ValueError("--batch and --threads are for --torch-python; threads of the rest are OMP_NUM_THREADS")
    from ..benchmarks.condensenet_variants import compare_variants, variants_table

    rows = [row for name in args.names for row in compare_variants(name, args.image_size, args.repeats, clock(args))]
    _print_with_conditions(variants_table(rows), f"one image, {args.repeats} repetitions in turn")


def _run_runtimes(args: argparse.Namespace) -> None:
    from ..benchmarks.condensenet_runtimes import RuntimeRow, compare_runtimes, runtimes_table

    options = {"image_size": args.image_size, "batch": args.batch, "threads": args.threads, "repeats": args.repeats}
    rows: List[RuntimeRow] = []
    versions: Dict[str, str] = {}
    for name in args.names:
        found, versions = compare_runtimes(name, args.torch_python, clock=clock(args).__name__, **options)
        rows += found
    used = ", ".join(f"{name} {version}" for name, version in versions.items())
    _print_with_conditions(
        runtimes_table(rows),
        f"{args.batch} image(s), {args.threads} thread(s), {args.repeats} repetitions in turn, {used}",
    )


def _add_routing(parser: argparse.ArgumentParser) -> None:
    _name(parser, "ds_mobilenet_v1")
    _image_size(parser)
    parser.add_argument(
        "--batch", type=int, default=32, metavar="N", help="Number of images with mixed decisions (default: 32)."
    )
    _repeats(parser, 20, "; a quarter of them, but at least 6, for sets of images")
    parser.add_argument(
        "--form",
        choices=("compiled", "fused", "plain"),
        default="fused",
        help="Run MXNet's graphs with this package's compiled operators (compiled), with oneDNN's fusions (fused, the "
        "default) or with neither (plain).",
    )
    parser.add_argument("--onnx", action="store_true", help="Time ONNX Runtime, too; routed also in one file.")
    clock_option(parser)
    network_options(parser)


def _run_routing(args: argparse.Namespace) -> None:
    from ..benchmarks.routing import compare_routing, routing_table
    from ..benchmarks.routing_stages import compare_staged_routing, staged_routing_table

    net = get_model(args.name, **read_options(args.option))
    how = (args.image_size, args.repeats, clock(args), args.form, args.batch, args.onnx)
    if getattr(net, "num_choices", 1) > 1:
        table = staged_routing_table(compare_staged_routing(net, *how))
    else:
        table = routing_table(compare_routing(net, *how))
    _print_with_conditions(table, f"{args.repeats} repetitions in turn")


def _add_slicing(parser: argparse.ArgumentParser) -> None:
    _name(parser, "slimmable_resnet50")
    _image_size(parser)
    _repeats(parser, 20)
    clock_option(parser)


def _run_slicing(args: argparse.Namespace) -> None:
    from ..benchmarks.slicing import compare_slicing, slicing_table

    rows = compare_slicing(args.name, args.image_size, args.repeats, clock(args))
    _print_with_conditions(slicing_table(rows), f"one image, {args.repeats} repetitions in turn")


def _add_optimizers(parser: argparse.ArgumentParser) -> None:
    _name(parser, "mobilenet_v3_large")
    _repeats(parser, 20)


def _run_optimizers(args: argparse.Namespace) -> None:
    from ..benchmarks.optimizers import compare_optimizers, optimizers_table

    print(optimizers_table(compare_optimizers(args.name, args.repeats)))


def _add_detectors(parser: argparse.ArgumentParser) -> None:
    _name(
        parser,
        ["ssdlite320_mobilenet_v3_large", "ssdlite320_mobilenext_x1_0", "ssdlite320_mobilenet_v2_x1_0"],
    )
    parser.add_argument("--classes", type=int, default=90, metavar="N", help="Number of classes (default: 90).")
    parser.add_argument(
        "--pairs",
        type=int,
        default=1000,
        metavar="N",
        help="Pairs of a box and a class with a score above the limit (default: 1000).",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="Threads of ONNX Runtime (default: 1).")
    parser.add_argument(
        "--torch-python",
        metavar="PATH",
        help="The Python that has torchvision, whose own detector is measured then (default: its structure).",
    )
    parser.add_argument("--json", metavar="FILE", help="Also write all rows with their conditions to a file.")
    _repeats(parser, 50)
    clock_option(parser)


def _run_detectors(args: argparse.Namespace) -> None:
    from ..benchmarks.detectors import detectors_table, measure_detectors
    from ..files.write import write_text

    options = {"clock": clock(args), "torch_python": args.torch_python}
    result = measure_detectors(args.names, args.classes, args.pairs, args.repeats, args.threads, **options)
    for line in result["left_out"]:
        print(line, file=sys.stderr, flush=True)
    if args.json:
        write_text(args.json, json.dumps(result, indent=1) + "\n")
    print(detectors_table(result))


def _print_with_conditions(table: str, how: str) -> None:
    from ..timing import conditions, conditions_line

    print(f"{table}\n\n{how}; {conditions_line(conditions())}")


COMMANDS = (
    Command(
        "idle-forms",
        f"Time the variants of an IdleBlock network side by side {_ONE_THREAD}.",
        _add_idle,
        _run_idle,
    ),
    Command(
        "layout",
        f"Time the variants of training and inference, and oneDNN's layout throughout {_ONE_THREAD}.",
        _add_layout,
        _run_layout,
    ),
    Command(
        "shortcut",
        f"Time the variants of MobileNeXt's divided shortcut {_ONE_THREAD}.",
        _add_shortcut,
        _run_shortcut,
    ),
    Command(
        "shuffle",
        f"Time networks with and without channel shuffles in the runtimes at hand {_ONE_THREAD}.",
        _add_shuffle,
        _run_shuffle,
    ),
    Command(
        "condense",
        "Time CondenseNets masked, condensed and aligned side by side, in PyTorch too if it is installed.",
        _add_condense,
        _run_condense,
    ),
    Command(
        "routing",
        "Time a network with a gate: routed, masked and static at each width, beside MobileNetV1.",
        _add_routing,
        _run_routing,
    ),
    Command(
        "slicing",
        "Time a quarter of ResNet-50's channels: masked, by index, sliced, and as a network of its own.",
        _add_slicing,
        _run_slicing,
    ),
    Command(
        "detectors",
        "Time detectors in ONNX Runtime, with and without the choice of detections, beside PyTorch's export.",
        _add_detectors,
        _run_detectors,
    ),
    Command(
        "optimizers",
        f"Time one update of all parameters with NAG, LB-SGD and MXNet's own optimizers {_ONE_THREAD}.",
        _add_optimizers,
        _run_optimizers,
    ),
)
