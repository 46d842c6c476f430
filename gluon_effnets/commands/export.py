"""The command `python -m gluon_effnets export`: its arguments, and what it writes."""

from __future__ import annotations

import argparse
from typing import Any, Callable, Optional

from ..models import get_model
from .options import condensing_options, network_options, read_options

__all__ = ["add_export"]


def add_export(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; `command(name, function, help)` makes a parser that calls `function(args)`."""
    added = command("export", _export, "weights to files for MXNet or ONNX and OUT.json, loaded again and compared")
    added.add_argument("name")
    added.add_argument("weights", help=".params file")
    added.add_argument("out", help="prefix of the files")
    added.add_argument("--format", choices=("mxnet", "onnx"), default="mxnet",
                       help="OUT-symbol.json and OUT-0000.params (default), or OUT.onnx")  # fmt: skip
    added.add_argument("--image-size", type=int, metavar="N", help="default: that of the model; ONNX takes no other")
    added.add_argument("--batch", type=_batch, metavar="N|dynamic", help="of ONNX: a fixed number (default: dynamic)")
    added.add_argument("--raw-input", action="store_true", help="the graph takes pixels of 0..255 and normalizes them")
    added.add_argument("--names", metavar="FILE", help="names of the classes for OUT.json, one per line")
    added.add_argument("--classes", type=int, help="default: as in the weights")
    added.add_argument("--width", type=_width, metavar="I|largest|I,J,...",
                       help="one width (or path) of a slimmable network alone")  # fmt: skip
    added.add_argument("--routed", action="store_true",
                       help="network with a gate: a graph before the decision, one per width after it")  # fmt: skip
    added.add_argument("--aligned", action="store_true",
                       help="ShuffleNets and CondenseNets: equal graph that runs faster on a CPU")  # fmt: skip
    condensing_options(added)
    network_options(added)


def _export(args) -> None:
    from ..deploy import condense, export, export_subnet
    from ..deploy.exported import read_names

    net = get_model(args.name, pretrained=args.weights, classes=args.classes, **read_options(args.option))
    if args.routed:
        return _export_routed(net, args)
    if args.condense or args.condense_classifier:
        net = condense(net, classifier=args.condense_classifier)
    form = {"format": args.format, "batch": args.batch, "raw_input": args.raw_input, "align": args.aligned or None}
    names = read_names(args.names, net.num_classes) if args.names else None
    if args.width is None:
        exported = export(net, args.out, args.image_size, names=names, **form)
    else:
        exported = export_subnet(net, args.width, args.out, args.image_size, names=names, **form)
    print("\n".join(map(str, [*exported.files, exported.description])))
    print(f"input: {'pixels of 0..255, then inside ' if args.raw_input else ''}{net.preprocessing}")
    print(f"loaded again: largest difference {exported.difference:.1e} of the logits' standard deviation")


def _export_routed(net, args) -> None:
    from ..deploy.slimmable_files import Manifest, export_routed

    others = ("aligned", "condense", "condense_classifier", "raw_input", "batch", "names")
    if args.format != "mxnet" or args.width is not None or any(getattr(args, name) for name in others):
        raise ValueError("--routed goes with --image-size, --classes and --option alone")
    path = export_routed(net, args.out, args.image_size)
    manifest = Manifest.read(path)
    print("\n".join([*(str(path.with_name(name)) for name in manifest.sha256), str(path)]))
    print(f"input: {net.preprocessing}")
    print(f"loaded again: largest difference {manifest.difference:.1e} of the logits' standard deviation")


def _width(text: str) -> Any:
    """An index, a word, or '0,1,3,2' as a path."""
    names = [int(part) if part.isdigit() else part for part in text.split(",")]
    return names[0] if len(names) == 1 else tuple(names)


def _batch(text: str) -> Optional[int]:
    return None if text == "dynamic" else int(text)
