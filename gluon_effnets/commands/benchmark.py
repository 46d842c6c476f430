"""The comparisons of `python -m gluon_effnets benchmark`: what they measure, and their arguments."""

from __future__ import annotations

import argparse
import time
from typing import Callable

from ..models import get_model
from .latency import add_latency
from .options import network_options, read_options
from .profile import add_profile

__all__ = ["add_benchmarks"]


def add_benchmarks(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the comparisons; `command(name, function, help)` makes a parser that calls `function(args)`."""
    add_latency(command)
    add_profile(command)
    text = "the forms of an IdleBlock network side by side (processor time; set OMP_NUM_THREADS=1)"
    added = command("idle-forms", _idle_forms, text)
    added.add_argument("name", nargs="?", default="idle_mbv3")
    added.add_argument("--baseline", default="mobilenet_v3_large")
    added.add_argument("--repeats", type=int, default=10)
    text = "memory layouts, and the forms of training and inference (processor time; set OMP_NUM_THREADS=1)"
    added = command("layout", _layout, text)
    added.add_argument("names", nargs="*", default=["shufflenet_v1_g3_x1_0", "shufflenet_v1_g8_x1_0"])
    added.add_argument("--repeats", type=int, default=5)
    text = "the forms of MobileNeXt's divided shortcut (processor time; set OMP_NUM_THREADS=1)"
    added = command("shortcut", _shortcut, text)
    added.add_argument("name", nargs="?", default="mobilenext_x1_0")
    added.add_argument("--divisors", type=int, nargs="+", default=[1, 2, 3, 6])
    added.add_argument("--repeats", type=int, default=20)
    text = "CondenseNets masked, condensed and aligned side by side; in PyTorch too, if it is installed"
    added = command("condense", _condense, text)
    added.add_argument("names", nargs="*", default=["condensenet_v2_a", "condensenet_v2_b", "condensenet_v2_c"])
    added.add_argument("--image-size", type=int)
    added.add_argument("--repeats", type=int, default=20)
    _processor_time(added)
    text = "a network with a gate: routed, masked, static at each width, and MobileNetV1"
    added = command("routing", _routing, text)
    added.add_argument("name", nargs="?", default="ds_mobilenet_v1")
    added.add_argument("--image-size", type=int)
    added.add_argument("--batch", type=int, default=32, help="number of images with mixed decisions (default: 32)")
    added.add_argument("--repeats", type=int, default=20, help="of one image; a quarter of it for sets of images")
    added.add_argument("--form", choices=("fused", "plain"), default="fused", help="of MXNet's graphs")
    added.add_argument("--onnx", action="store_true", help="in ONNX Runtime, too; routed also in one file")
    _processor_time(added)
    network_options(added)
    text = "a quarter of ResNet-50's channels: masked, by index, sliced, and as a network of its own"
    added = command("slicing", _slicing, text)
    added.add_argument("name", nargs="?", default="slimmable_resnet50")
    added.add_argument("--image-size", type=int)
    added.add_argument("--repeats", type=int, default=20)
    _processor_time(added)
    text = "one update of all parameters with NAG, LB-SGD and MXNet's own (processor time; set OMP_NUM_THREADS=1)"
    added = command("optimizers", _optimizers, text)
    added.add_argument("name", nargs="?", default="mobilenet_v3_large")
    added.add_argument("--repeats", type=int, default=20)


def _processor_time(added: argparse.ArgumentParser) -> None:
    added.add_argument("--processor-time", action="store_true", help="less disturbed by others; OMP_NUM_THREADS=1")


def _clock(args) -> Callable[[], float]:
    return time.process_time if args.processor_time else time.perf_counter


def _idle_forms(args) -> None:
    from ..benchmarks.idle_forms import compare_forms, forms_table

    print(forms_table(compare_forms(args.name, args.baseline, args.repeats)))


def _layout(args) -> None:
    from ..benchmarks.memory_layouts import compare_layouts, layouts_table
    from ..timing import conditions

    print(f"{layouts_table(compare_layouts(args.names, args.repeats))}\n\n{conditions()}")


def _shortcut(args) -> None:
    from ..benchmarks.shortcut_forms import compare_shortcuts, shortcuts_table

    print(shortcuts_table(compare_shortcuts(args.name, args.divisors, repeats=args.repeats)))


def _condense(args) -> None:
    from ..benchmarks.condensenet_forms import compare_forms, forms_table
    from ..timing import conditions

    rows = [row for name in args.names for row in compare_forms(name, args.image_size, args.repeats, _clock(args))]
    print(f"{forms_table(rows)}\n\none image, {args.repeats} repetitions in turn; {conditions()}")


def _routing(args) -> None:
    from ..benchmarks.routing import compare_routing, routing_table
    from ..timing import conditions

    net = get_model(args.name, **read_options(args.option))
    times = compare_routing(net, args.image_size, args.repeats, _clock(args), args.form, args.batch, args.onnx)
    print(f"{routing_table(times)}\n\n{args.repeats} repetitions in turn; {conditions()}")


def _slicing(args) -> None:
    from ..benchmarks.slicing import compare_slicing, slicing_table
    from ..timing import conditions

    rows = compare_slicing(args.name, args.image_size, args.repeats, _clock(args))
    print(f"{slicing_table(rows)}\n\none image, {args.repeats} repetitions in turn; {conditions()}")


def _optimizers(args) -> None:
    from ..benchmarks.optimizers import compare_optimizers, optimizers_table

    print(optimizers_table(compare_optimizers(args.name, args.repeats)))
