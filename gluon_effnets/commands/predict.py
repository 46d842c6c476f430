"""The command `predict`: the likeliest classes of image files."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple, Union

from ..files.mistakes import sentence
from ..files.text import shown
from ..tables import Table
from .command import Command
from .options import network_options, read_options, table_format, trust_option

if TYPE_CHECKING:
    from ..evaluate.predict import Classifier, ExportedClassifier

__all__ = ["COMMAND"]

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `predict`."""
    parser.usage = f"{parser.prog} [options] (NAME WEIGHTS | EXPORTED.json) IMAGE|FOLDER ..."
    parser.add_argument(
        "model",
        metavar="NAME WEIGHTS | EXPORTED.json",
        help="A model and its .params file or the word pretrained, or the JSON file that export or tvm wrote.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="IMAGE|FOLDER", help="JPEG, PNG, BMP or WebP files, or folders of them."
    )
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="Images that go through the network together (default: 1)."
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="Number of classes to show (default: 5).")
    parser.add_argument(
        "--names", metavar="FILE", help="The names of the classes, one per line, in place of the network's."
    )
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="Side of the network's input (default: as it was trained)."
    )
    trust_option(parser)
    table_format(parser, exact="all but text are one table, written at the end")
    network_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the classes of each image; return 1 if one cannot be read."""
    from ..deploy.description import read_names
    from ..evaluate.predict import best, find_images
    from ..models.card import compare_names

    classifier, images = _classifier(args)
    names: Optional[Sequence[str]] = classifier.names
    if args.names:
        names = read_names(args.names, classifier.num_classes)
        replaced = compare_names(classifier.names, names)
        if replaced:
            log.warning("the names are those of %s; of those of the network %s", args.names, replaced)
    failed, rows = False, []
    for path, found in classifier.batches(find_images(images), args.batch):
        if isinstance(found, OSError):
            print(f"error: {sentence(found)}", file=sys.stderr, flush=True)
            failed = True
            continue
        classes = [(index, names[index] if names else None, p) for index, p in best(found, args.top)]
        if args.format == "text":
            lines = [(f"  {p:7.2%}", index, name) for index, name, p in classes]
            print(f"{shown(str(path), 4096)}\n{Table(['', '', ''], lines).text(header=False)}", flush=True)
        rows += [(str(path), *line) for line in classes]
    if args.format != "text":
        print(Table(["image", "class", "name", ("probability", ".2%")], rows).written(args.format))
    return int(failed)


def _classifier(args: argparse.Namespace) -> Tuple[Union[Classifier, ExportedClassifier], List[str]]:
    """What classifies, and the paths of the images."""
    from ..evaluate.predict import Classifier, ExportedClassifier
    from ..weights.conversion import weights_path

    if args.model.endswith((".json", ".onnx", ".so")):
        if args.option:
            raise ValueError("--option is for weights; an exported network is as it was exported")
        return ExportedClassifier(args.model, args.image_size, args.trust_library), args.paths
    weights, *images = args.paths
    if not images:
        raise ValueError("no images: give NAME WEIGHTS IMAGE..., or EXPORTED.json IMAGE...")
    return Classifier(
        args.model, weights_path(args.model, weights), args.image_size, **read_options(args.option)
    ), images


COMMAND = Command(
    "predict",
    "Show the likeliest classes of image files, by weights or by an exported network.",
    add_arguments,
    run,
)
