"""The command `predict`: the likeliest classes of image files, or the boxes that a detector finds on them."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Union

from ..files.mistakes import sentence
from ..files.text import shown
from ..tables import Table
from .command import Command
from .detectors import names_detector
from .options import EXPORTED, network_options, read_options, table_format, trust_option

if TYPE_CHECKING:
    from ..evaluate.detect import ImageDetections, ImageDetector
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
    parser.add_argument(
        "--top", type=int, metavar="N", help="Number of classes to show (default: 5), or of boxes (default: all)."
    )
    parser.add_argument(
        "--names", metavar="FILE", help="The names of the classes, one per line, in place of the network's."
    )
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="Side of the network's input (default: as it was trained)."
    )
    parser.add_argument(
        "--score-above",
        type=float,
        metavar="SCORE",
        help="Of a detector: show boxes of higher scores alone, 0 to 1 (default: 0.5).",
    )
    parser.add_argument("--out", metavar="DIR", help="Of a detector: write the images with their boxes to a folder.")
    parser.add_argument(
        "--json", metavar="FILE", help="Of a detector: write a list of all boxes, with a record for each image."
    )
    trust_option(parser)
    table_format(parser, exact="all but text are one table, written at the end")
    network_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the classes or the boxes of each image; return 1 if one cannot be read."""
    from ..evaluate.predict import best, find_images
    from ..files.folders import not_left_empty

    detects = names_detector(args.model)
    _check(args, detects)
    if detects:
        with contextlib.ExitStack() as stack:
            for folder in _folders(args):
                stack.enter_context(not_left_empty(Path(folder)))
            return _run_detector(args)
    classifier, images = _classifier(args)
    names = _names(args, classifier)
    failed, rows = False, []
    for path, found in classifier.batches(find_images(images), args.batch):
        if isinstance(found, OSError):
            failed = _say_failed(found)
            continue
        top = best(found, 5 if args.top is None else args.top)
        classes = [(index, names[index] if names else None, p) for index, p in top]
        if args.format == "text":
            lines = [(f"  {p:7.2%}", index, name) for index, name, p in classes]
            print(f"{shown(str(path), 4096)}\n{Table(['', '', ''], lines).text(header=False)}", flush=True)
        rows += [(str(path), *line) for line in classes]
    if args.format != "text":
        print(Table(["image", "class", "name", ("probability", ".2%")], rows).written(args.format))
    return int(failed)


def _run_detector(args: argparse.Namespace) -> int:
    from ..evaluate.predict import find_images
    from ..files.write import make_folder, write_text

    detector, paths = _detector(args)
    names, images = _names(args, detector), find_images(paths)
    places = _places(images, args.out) if args.out else {}
    for folder in _folders(args):
        make_folder(folder)
    failed, rows, records = False, [], []
    least = 0.5 if args.score_above is None else args.score_above
    for path, answer in detector.batches(images, args.batch):
        if isinstance(answer, OSError):
            failed = _say_failed(answer)
            continue
        found = answer.chosen(least, args.top)
        boxes = found.records(names)
        if args.format == "text":
            print(_as_text(str(path), boxes, least), flush=True)
        rows += [(str(path), box["class"], box["name"], box["score"], *box["box"]) for box in boxes]
        height, width = found.size
        records.append({"image": str(path), "height": height, "width": width, "detections": boxes})
        if places:
            _write_drawn(path, places[path], found, names)
    if args.json:
        write_text(args.json, json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    if args.format != "text":
        corners = [(name, ".1f") for name in ("x1", "y1", "x2", "y2")]
        print(Table(["image", "class", "name", ("score", ".2%"), *corners], rows).written(args.format))
    return int(failed)


def _folders(args: argparse.Namespace) -> List[Union[str, Path]]:
    """The folders that are written into."""
    return [folder for folder in (args.out, args.json and Path(args.json).parent) if folder]


def _as_text(path: str, boxes: Sequence[Dict[str, Any]], least: float) -> str:
    lines = [
        (f"  {box['score']:7.2%}", box["class"], box["name"], " ".join(f"{value:.0f}" for value in box["box"]))
        for box in boxes
    ]
    below = Table(["", "", "", ""], lines).text(header=False) if lines else f"  nothing found above {least:.0%}"
    return f"{shown(path, 4096)}\n{below}"


def _places(images: Sequence[Path], out: str) -> Dict[Path, Path]:
    """Where each image is written with its boxes: under its own name, with a number where that is taken."""
    taken, places = set(), {}
    for path in images:
        suffix = path.suffix if path.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"
        name, number = path.stem + suffix, 1
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}{suffix}"
        taken.add(name.lower())
        places[path] = Path(out).expanduser() / name
    originals = {path.expanduser().resolve() for path in images}
    over = [place for place in places.values() if place.resolve() in originals]
    if over:
        raise ValueError(f"--out {out} would write over the image {over[0]}; name another folder")
    return places


def _write_drawn(path: Path, place: Path, found: ImageDetections, names: Optional[Sequence[str]]) -> None:
    from PIL import Image

    from ..evaluate.detect import draw_detections
    from ..files.write import write_bytes

    content, jpeg = io.BytesIO(), place.suffix.lower() != ".png"
    how: Dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0} if jpeg else {"format": "PNG"}
    Image.fromarray(draw_detections(path, found, names)).save(content, **how)
    write_bytes(place, content.getvalue())


def _say_failed(error: OSError) -> bool:
    print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
    return True


def _check(args: argparse.Namespace, detects: bool) -> None:
    """Refuse options that have no meaning for the network."""
    if not detects:
        wrong = [name for name in ("score_above", "out", "json") if getattr(args, name) is not None]
        if wrong:
            raise ValueError(f"--{wrong[0].replace('_', '-')} is for detectors; this network says classes alone")
        return
    if args.score_above is not None and not 0 <= args.score_above < 1:
        raise ValueError(f"--score-above is {args.score_above}; it must be at least 0, and below 1")
    if args.top is not None and args.top < 1:
        raise ValueError(f"the number of boxes to show is {args.top}; it must be at least 1")


def _names(args: argparse.Namespace, network: Any) -> Optional[Sequence[str]]:
    """The names of the classes: those of a file, or the network's own."""
    from ..deploy.description import read_names
    from ..models.card import compare_names

    if not args.names:
        return network.names
    names = read_names(args.names, network.num_classes)
    replaced = compare_names(network.names, names)
    if replaced:
        log.warning("the names are those of %s; of those of the network %s", args.names, replaced)
    return names


def _split(args: argparse.Namespace) -> Tuple[Optional[str], List[str]]:
    """The weights, None for an export, and the paths of the images."""
    if args.model.endswith(EXPORTED):
        if args.option:
            raise ValueError("--option is for weights; an exported network is as it was exported")
        return None, args.paths
    weights, *images = args.paths
    if not images:
        raise ValueError("no images: give NAME WEIGHTS IMAGE..., or EXPORTED.json IMAGE...")
    return weights, images


def _classifier(args: argparse.Namespace) -> Tuple[Union[Classifier, ExportedClassifier], List[str]]:
    """What classifies, and the paths of the images."""
    from ..evaluate.predict import Classifier, ExportedClassifier
    from ..weights.conversion import weights_path

    weights, images = _split(args)
    if weights is None:
        return ExportedClassifier(args.model, args.image_size, args.trust_library), images
    path = weights_path(args.model, weights)
    return Classifier(args.model, path, args.image_size, **read_options(args.option)), images


def _detector(args: argparse.Namespace) -> Tuple[ImageDetector, List[str]]:
    """What detects, and the paths of the images."""
    from ..evaluate.detect import ImageDetector

    weights, images = _split(args)
    if weights is None:
        detector = ImageDetector.of_export(args.model, args.trust_library)
    else:
        detector = ImageDetector.of_weights(args.model, weights, **read_options(args.option))
    side = detector.settings.image_size
    if args.image_size not in (None, side):
        raise ValueError(f"{weights or args.model} takes images of {side} x {side} alone, not {args.image_size}")
    return detector, images


COMMAND = Command(
    "predict",
    "Show the likeliest classes of image files, or a detector's boxes, by weights or by an exported network.",
    add_arguments,
    run,
)
