"""The command `export`: weights to files that run elsewhere."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from typing import Any, List, Optional, Tuple

import numpy as np

from ..models import ClassificationNet, get_model
from .command import Command
from .detectors import is_detector
from .options import condensing_options, data_options, network_options, read_options, weights_help

__all__ = ["COMMAND"]

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `export`."""
    parser.add_argument("name", help="The model or detector, see python -m gluon_effnets list, list --detectors.")
    parser.add_argument("weights", help=weights_help("Its .params file"))
    parser.add_argument("out", help="How the names of the files begin.")
    parser.add_argument(
        "--format",
        choices=("mxnet", "onnx"),
        default="mxnet",
        help="Write OUT-symbol.json and OUT-0000.params (mxnet, the default), or OUT.onnx.",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="Side of the images, which an ONNX file fixes (default: as in training, else the model's own size).",
    )
    parser.add_argument(
        "--batch",
        type=_batch,
        metavar="N|dynamic",
        help="Number of images that an ONNX file takes (default: dynamic, any number).",
    )
    parser.add_argument(
        "--raw-input", action="store_true", help="Let the graph take pixels of 0..255 and normalize them."
    )
    parser.add_argument(
        "--no-fold",
        dest="fold",
        action="store_false",
        help="Keep BN a layer of its own in MXNet's files, as further training needs it.",
    )
    parser.add_argument(
        "--no-blocks",
        dest="blocks",
        action="store_false",
        help="Leave IdleBlocks in ONNX as they are, for TVM; ONNX Runtime is faster without this.",
    )
    parser.add_argument(
        "--for",
        dest="runtime",
        choices=("onnxruntime", "openvino", "portable"),
        help="What an ONNX file is to be fastest in (default: portable, fast in both).",
    )
    parser.add_argument(
        "--all-boxes",
        action="store_true",
        help="Of a detector: write all boxes with their scores, for runtimes that cannot suppress.",
    )
    parser.add_argument(
        "--int8", action="store_true", help="Write 8-bit files; training images of --data set their ranges."
    )
    data_options(parser, required=False, use="The data set for --int8")
    parser.add_argument(
        "--images", type=int, default=256, metavar="N", help="Number of training images for --int8 (default: 256)."
    )
    parser.add_argument(
        "--names", metavar="FILE", help="The names of the classes, one per line (default: as in the weights)."
    )
    parser.add_argument("--license", metavar="TEXT", help="The license of the weights, to stand in the files.")
    parser.add_argument("--classes", type=int, metavar="N", help="Number of classes (default: as in the weights).")
    parser.add_argument(
        "--width",
        type=_width,
        metavar="I|largest|I,J,...",
        help="Write one width, or path of widths, of a slimmable network alone.",
    )
    parser.add_argument(
        "--routed",
        action="store_true",
        help="Write a network with a gate: a graph before the decision, one per width after it.",
    )
    parser.add_argument(
        "--single-file",
        action="store_true",
        help="Write all of --routed --format onnx to OUT.onnx, for one image at a time.",
    )
    parser.add_argument(
        "--aligned",
        action="store_true",
        default=None,
        help="Write the equal graph of a ShuffleNet or CondenseNet for CPUs (default: where it was measured faster).",
    )
    parser.add_argument("--no-aligned", dest="aligned", action="store_false", help="Write the network's own graph.")
    condensing_options(parser)
    network_options(parser)


def run(args: argparse.Namespace) -> None:
    """Export, and print the files and how they compare with the network."""
    from ..deploy import export, export_subnet
    from ..deploy.description import Description
    from ..deploy.forms import form_of
    from ..models.condense import condense
    from ..weights.conversion import weights_path

    if is_detector(args.name):
        net, images = _detector_and_images(args)
    else:
        args.weights = weights_path(args.name, args.weights)
        net, images = _net_and_images(args)
    _replace_card(net, args)
    if args.routed:
        return _export_routed(net, args)
    if args.single_file:
        raise ValueError("--single-file goes with --routed")
    if args.condense or args.condense_classifier:
        net = condense(net, classifier=args.condense_classifier)
    if args.width is not None and not (args.fold and args.blocks):
        raise ValueError(
            "--width is the graph of one width with BN folded in; --no-fold and --no-blocks do not go with it"
        )
    write = partial(export, net) if args.width is None else partial(export_subnet, net, args.width)
    exported = write(
        args.out,
        args.image_size,
        args.aligned,
        format=args.format,
        batch=args.batch,
        raw_input=args.raw_input,
        fold=args.fold,
        blocks=args.blocks,
        int8=images,
        license=args.license,
        all_boxes=args.all_boxes,
        runtime=args.runtime,
    )
    print("\n".join(map(str, [*exported.files, exported.description])))
    print(f"input: {'pixels of 0..255, then inside ' if args.raw_input else ''}{net.preprocessing}")
    about = Description.read(exported.description)
    print(f"loaded again: {_comparison(about)}")
    if args.fold and not about.folded:
        print("BN is not folded in: the rounding would change the logits by more than is allowed")
    form = form_of(about)
    if form:
        print(f"form: {form}")
    if about.speed:
        print(about.speed)


def _net_and_images(args) -> Tuple[ClassificationNet, Optional[List[np.ndarray]]]:
    """The network, and images to calibrate 8 bits with, or None."""
    if not args.int8:
        if args.data or args.overrides:
            raise ValueError("--data and --set are for the ranges of --int8")
        return get_model(args.name, pretrained=args.weights, classes=args.classes, **read_options(args.option)), None
    from ..evaluate.validate import calibration_images, for_calibration, open_pair

    if not args.data:
        raise ValueError("--int8 takes its ranges from training images: add --data KIND[:PATH], e.g. cifar10:FOLDER")
    if args.routed or args.width is not None or args.classes is not None:
        raise ValueError("--int8 does not go with --routed, --width and --classes")
    size = [f"data.image_size={args.image_size}"] if args.image_size else []
    overrides = [*for_calibration(args.images), *args.overrides, *size, "data.augment=evaluation"]
    net, data = open_pair(args.name, args.weights, args.data, overrides, read_options(args.option))
    args.image_size = data.settings.image_size
    return net, [batch.asnumpy() for batch in calibration_images(data, args.images)]


def _detector_and_images(args) -> Tuple[Any, Optional[List[np.ndarray]]]:
    """The detector, and images to calibrate 8 bits with, or None."""
    from ..deploy.detection_images import detection_images
    from ..detection import load_detector

    others = ("condense", "condense_classifier", "classes", "option", "overrides")
    if args.width is not None or any(getattr(args, name) for name in others):
        raise ValueError(
            "--width, --condense, --classes, --option and --set do not go with detectors, whose file of "
            "weights says all"
        )
    if bool(args.data) != args.int8:
        raise ValueError(
            "--int8 takes its ranges from training images, and these serve nothing else: --int8 --data DIR"
        )
    net = load_detector(args.weights, name=args.name)
    return net, [detection_images(net, args.data, args.images)] if args.int8 else None


def _replace_card(net: Any, args: argparse.Namespace) -> None:
    """Let the names and the size that are asked for go before those of the weights, and say so."""
    from ..deploy.description import read_names
    from ..models.card import compare_names

    if args.names:
        names = read_names(args.names, net.num_classes)
        replaced = compare_names(net.classes, names)
        if replaced:
            log.warning("the names are those of %s; of those in %s %s", args.names, args.weights, replaced)
        net.classes = names
    stored = net.preprocessing.image_size
    # Of the images for 8 bits it has been said already.
    if stored and not args.int8 and args.image_size not in (None, stored):
        log.warning("the images are %d pixels wide as asked; %s is for %d", args.image_size, args.weights, stored)


def _comparison(about) -> str:
    """What the description of an export says of its answers."""
    if about.int8 is None:
        unit = "in scores, or in sides of the image" if about.task else "of the logits' standard deviation"
        return f"largest difference {about.difference:.1e} {unit}"
    figures = about.int8
    layers = figures["float_layers"]
    if about.task:
        return (
            f"on {figures['held_out_images']} other images {figures['agreement']:.2%} of the detections, by score, are "
            f"found as in float32\nlayers left in float32: {', '.join(layers) or 'none'}; boxes are decoded in float32"
        )
    return (
        f"on {figures['held_out_images']} other images {figures['agreement']:.2%} of the classes are as in float32,\n"
        f"logits differ by {figures['difference']:.3f} of their standard deviation (root mean square)\n"
        f"layers left in float32: {', '.join(layers) or 'none'}"
    )


def _export_routed(net, args) -> None:
    from ..deploy import export_routed
    from ..deploy.description import Description

    others = ("condense", "condense_classifier", "raw_input", "batch", "license", "all_boxes", "int8", "runtime")
    given = [getattr(args, name) for name in others] + [args.width is not None, args.aligned is not None]
    if not (args.fold and args.blocks) or any(given):
        raise ValueError(
            "--routed goes with --format, --single-file, --image-size, --names, --classes and --option alone"
        )
    path = export_routed(net, args.out, args.image_size, format=args.format, single_file=args.single_file)
    about = Description.read(path)
    print("\n".join([*(str(path.with_name(name)) for name in about.sha256 or ()), str(path)]))
    print(f"input: {net.preprocessing}")
    print(f"loaded again: {_comparison(about)}")


def _width(text: str) -> Any:
    """An index, a word, or '0,1,3,2' as a path."""
    names = [int(part) if part.isdigit() else part for part in text.split(",")]
    return names[0] if len(names) == 1 else tuple(names)


def _batch(text: str) -> Optional[int]:
    return None if text == "dynamic" else int(text)


COMMAND = Command("export", "Export weights to files for MXNet or ONNX, loaded again and compared.", add_arguments, run)
