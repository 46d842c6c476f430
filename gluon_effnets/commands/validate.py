"""The command `validate`: accuracy of weights and of exported networks, and average precision of detectors."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Union

from ..files.mistakes import sentence
from ..files.text import shown
from ..tables import Table
from .command import Command
from .detectors import names_detector
from .options import EXPORTED, data_options, network_options, read_options, table_format, trust_option

if TYPE_CHECKING:
    from ..evaluate.answers import Answers
    from ..evaluate.detections import DetectionAnswers
    from ..evaluate.detector import DetectorSubject
    from ..evaluate.results import Result
    from ..evaluate.subject import Subject

__all__ = ["COMMAND"]

# A page has one image that a detector does best on for so many that it does worst on.
_BEST = 4
_METRICS = {
    "voc07": "VOC2007, mean over 11 recalls, at an overlap of 0.5",
    "voc12": "VOC2012, area under the curve, at an overlap of 0.5",
    "coco": "COCO, mean over overlaps of 0.5 to 0.95",
}
_HOW = "give NAME WEIGHTS, one EXPORTED.json, or several networks as NAME=WEIGHTS and EXPORTED.json"


class _Network(NamedTuple):
    """A network as it was named; `model` is None for an export."""

    label: str
    model: Optional[str]
    file: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `validate`."""
    parser.usage = f"{parser.prog} [options] --data KIND[:PATH] (NAME WEIGHTS | EXPORTED.json | NAME=WEIGHTS ...)"
    parser.add_argument(
        "networks",
        nargs="+",
        metavar="NAME WEIGHTS | EXPORTED.json | NAME=WEIGHTS",
        help="A model and its .params file or the word pretrained, or the JSON file that export or tvm wrote; or "
        "several networks, each as NAME=WEIGHTS or EXPORTED.json, for a table.",
    )
    data_options(parser)
    parser.add_argument(
        "--protocol",
        choices=("recorded", "usual"),
        default="recorded",
        help="Size, crop and interpolation of the images: as recorded with the weights (default), or as usual for the "
        "model.",
    )
    parser.add_argument("--image-size", type=int, metavar="N", help="Side of the network's input, in pixels.")
    parser.add_argument(
        "--crop", type=float, metavar="SHARE", help="The shorter side gets image size / SHARE pixels, above 0 to 1."
    )
    parser.add_argument(
        "--interpolation",
        choices=("bilinear", "pillow_bilinear", "pillow_bicubic"),
        help="How images are resized: OpenCV's filter, or one of Pillow's, which most weights want.",
    )
    parser.add_argument(
        "--widths",
        type=_widths,
        metavar="all|ends|dynamic|0,3,...",
        help="Score a slimmable network at each of these widths, or routed by its gate (dynamic).",
    )
    parser.add_argument(
        "--per-class",
        action="store_true",
        help="Add a table by class, of which CSV then consists: accuracy and the most frequent confusion; of detectors "
        "objects and average precision.",
    )
    parser.add_argument("--confusion", metavar="FILE.png", help="Draw the confusion matrix.")
    parser.add_argument(
        "--worst",
        metavar="FILE.html",
        help="Write a page with the images of the highest loss; of detectors with the images of the lowest and of the "
        "highest average precision, with boxes.",
    )
    parser.add_argument(
        "--worst-images", type=int, default=48, metavar="N", help="How many images that page has (default: 48)."
    )
    parser.add_argument(
        "--metric",
        choices=("voc07", "voc12", "coco"),
        help="How detectors are scored: by 11 recalls as in VOC2007 (default), by the area under the curve as in later "
        "years, or by COCO's 12 figures (default for coco:DIR).",
    )
    parser.add_argument("--curves", metavar="FILE.png", help="Draw precision over recall of a detector by class.")
    trust_option(parser)
    table_format(parser)
    network_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the scores of one network, or a table of several; return 1 if one of these fails."""
    from ..files.folders import not_left_empty

    networks = _networks(args.networks)
    alone = len(networks) == 1 and "=" not in args.networks[0]
    with contextlib.ExitStack() as stack:
        for path in _files(args):
            stack.enter_context(not_left_empty(Path(path).parent))
        return _run(args, networks, alone)


def _run(args: argparse.Namespace, networks: Sequence[_Network], alone: bool) -> int:
    _check(args, networks, alone)
    if alone:
        _print_one(args, *_evaluated(args, networks[0]))
        return 0
    results, failed = [], False
    for network in networks:
        try:
            results.append(_evaluated(args, network)[0])
        except (ValueError, TypeError, OSError, ImportError) as error:
            print(f"error: {shown(network.label)}: {sentence(error)}", file=sys.stderr, flush=True)
            failed = True
    if results:
        _print_several(args, results)
    return int(failed)


def _networks(words: Sequence[str]) -> List[_Network]:
    """What the words name. Raises ValueError for words that are neither of the three forms."""
    first = words[0]
    if "=" not in first and not first.endswith(EXPORTED):
        if len(words) != 2:
            raise ValueError(f"{first!r} alone names no network: {_HOW}" if len(words) == 1 else _HOW)
        return [_Network(first, first, words[1])]
    found = []
    for word in words:
        model, separator, weights = word.partition("=")
        if word.endswith(EXPORTED):
            found.append(_Network(word, None, word))
        elif separator and model and weights:
            found.append(_Network(model, model, weights))
        else:
            raise ValueError(f"{word!r} names no network: {_HOW}")
    labels = [network.label for network in found]
    # Of several files of one model the file is part of the name.
    return [
        network._replace(label=f"{network.label}={network.file}") if labels.count(network.label) > 1 else network
        for network in found
    ]


def _check(args: argparse.Namespace, networks: Sequence[_Network], alone: bool) -> None:
    """Refuse what does not go together, or could not be written, before the evaluation."""
    from ..files.write import make_folder

    details = [name for name in ("per_class", "confusion", "worst", "curves") if getattr(args, name)]
    shown = ", ".join(f"--{name.replace('_', '-')}" for name in details)
    if details and not alone:
        raise ValueError(f"{shown} are of one network: give NAME WEIGHTS, or one EXPORTED.json")
    if args.widths is not None and (details or not alone or networks[0].model is None):
        other = f", without {shown}" if details else ""
        raise ValueError(f"--widths is for the weights of one slimmable network: give NAME WEIGHTS{other}")
    if args.worst_images < 1:
        raise ValueError(f"--worst-images is {args.worst_images}; it must be at least 1")
    if args.option and all(network.model is None for network in networks):
        raise ValueError("--option is for weights; an exported network is as it was exported")
    kinds = {names_detector(network.model or network.file) for network in networks}
    if len(kinds) > 1:
        raise ValueError("detectors and networks that classify have no scores in common: validate them apart")
    of_others = ("confusion", "widths", "crop") if kinds == {True} else ("metric", "curves")
    wrong = [name for name in of_others if getattr(args, name) is not None]
    if wrong:
        others = "networks that classify" if kinds == {True} else "detectors"
        raise ValueError(f"--{wrong[0].replace('_', '-')} is for {others}: leave it out")
    for path in _files(args):
        if Path(path).is_dir():
            raise ValueError(f"{path} is a folder; name a file")
        make_folder(Path(path).parent)
    if args.confusion or args.curves:
        from ..pictures import load_pyplot

        load_pyplot("the confusion matrix" if args.confusion else "the curves")


def _files(args: argparse.Namespace) -> List[str]:
    """The files that are written beside the output."""
    return [path for path in (args.confusion, args.worst, args.curves) if path]


def _open(args: argparse.Namespace, network: _Network) -> Union[Subject, DetectorSubject]:
    from ..evaluate.detector import open_detector, open_detector_export
    from ..evaluate.subject import open_export, open_weights
    from ..weights.conversion import weights_path

    asked = {"image_size": args.image_size, "eval_crop": args.crop, "eval_interpolation": args.interpolation}
    overrides = [*args.overrides, *(f"data.{key}={value}" for key, value in asked.items() if value is not None)]
    if network.model is None:
        opened = open_detector_export if names_detector(network.model or network.file) else open_export
        return opened(network.file, args.data, overrides, args.protocol, args.trust_library)
    if names_detector(network.model or network.file):
        options = read_options(args.option)
        return open_detector(network.model, network.file, args.data, overrides, options, args.protocol)
    file = weights_path(network.model, network.file)
    return open_weights(network.model, file, args.data, overrides, read_options(args.option), args.protocol)


def _evaluated(args: argparse.Namespace, network: _Network) -> Any:
    """The result, and the answers to the images unless widths were asked for."""
    from ..evaluate.answers import ask
    from ..evaluate.detections import ask_detector
    from ..evaluate.detector import DetectorSubject, default_metric
    from ..evaluate.results import Result, intervals
    from ..evaluate.validate import width_scores

    subject, images = _open(args, network), args.worst_images if args.worst else 0
    if isinstance(subject, DetectorSubject):
        metric = args.metric or default_metric(args.data)
        found = ask_detector(subject, metric, images, -(-images // _BEST))
        return Result(network.label, subject, found.scores, found.bounds, metric), found
    if args.widths is not None:
        assert subject.net is not None, "widths are for weights"
        scores = width_scores(subject.net, subject.data, subject.where, args.widths)
        return Result(network.label, subject, scores, intervals(scores, subject.data.num_val)), None
    answers = ask(subject, images)
    bounds = intervals(answers.scores, answers.num_images)
    return Result(network.label, subject, answers.scores, bounds), answers


def _print_one(args: argparse.Namespace, result: Result, answers: Union[Answers, DetectionAnswers, None]) -> None:
    rows: List[Any] = []
    share = "ap" if result.metric else "top1"
    if answers is not None:
        _write_files(args, result, answers)
        if args.per_class:
            rows = _class_rows(result, answers)
    if args.format == "json":
        print(json.dumps([_full(result, rows)], indent=1, ensure_ascii=False))
    elif args.format == "csv":
        record = result.record
        print((Table(rows[0]._fields, rows) if rows else Table([*record], [list(record.values())])).csv())
    else:
        print(_summary(result, args.format))
        if rows:
            # The classes that are recognized least come first, those without images last.
            ordered = sorted(rows, key=lambda row: (getattr(row, share) is None, getattr(row, share)))
            specs = {share: ".2%", "best_score": ".3f"}
            columns = [(name, specs.get(name, "")) for name in rows[0]._fields]
            print(f"\n{Table(columns, ordered).written(args.format)}")
        for written in _files(args):
            print(written)


def _write_files(args: argparse.Namespace, result: Result, answers: Any) -> None:
    from ..evaluate.confusion import draw_confusion
    from ..evaluate.precision_recall import draw_curves
    from ..evaluate.worst import scenes_page, worst_page, write_page

    subject: Any = result.subject
    if args.confusion:
        draw_confusion(subject, answers, args.confusion)
    if args.curves:
        draw_curves(subject, answers, args.curves)
    if args.worst:
        page = scenes_page(subject, answers) if result.metric else worst_page(subject, answers)
        write_page(page, args.worst)


def _class_rows(result: Result, answers: Any) -> List[Any]:
    from ..evaluate.confusion import class_rows
    from ..evaluate.detections import box_class_rows

    subject: Any = result.subject
    return box_class_rows(answers) if result.metric else class_rows(subject, answers)


def _summary(result: Result, format: str) -> str:
    """Scores with their intervals, what the images were, and on ImageNet what was published."""
    from ..evaluate.published import IMAGENET_IMAGES

    scores, data = dict(result.scores), result.subject.data
    scores.pop("AP", None)  # COCO's word for map
    bounds = {key: f"{low:.2%} to {high:.2%}" for key, (low, high) in result.bounds.items() if low == low}
    digits = {"mean_madds": 0, "loss": 4}
    as_numbers = {key: f"{scores.pop(key):,.{digits[key]}f}" for key in digits if key in scores}
    rows = [(key, f"{value:.3%}" if value == value else None, bounds.get(key)) for key, value in scores.items()]
    table = Table(["score", "value", "95 % interval"], [*rows, *((*row, None) for row in as_numbers.items())])
    lines = [
        table.text(header=False) if format == "text" else table.markdown() + "\n",
        f"images: {data.num_val:,} of {data.settings.source}; {data.preprocessing} ({result.subject.protocol})",
    ]
    if result.metric:
        lines.append(f"metric: {_METRICS[result.metric]}; boxes in pixels of the originals")
    published = [f"published: {row['what']} {row['value']} ({row['source']})" for row in result.published]
    if published and data.num_val != IMAGENET_IMAGES:
        lines.append(
            f"Published accuracies are of ImageNet's {IMAGENET_IMAGES:,} images, not of these {data.num_val:,}."
        )
    lines += published
    return "\n".join(lines)


def _print_several(args: argparse.Namespace, results: Sequence[Result]) -> None:
    from ..evaluate.results import comparison, ranked

    if args.format == "json":
        print(json.dumps([_full(result, []) for result in ranked(results)], indent=1, ensure_ascii=False))
    else:
        print(comparison(results, exact=args.format == "csv").written(args.format))


def _full(result: Result, rows: Sequence[Any]) -> Dict[str, Any]:
    """The record of a result with what is not in one line."""
    rest = {"per_class": [row._asdict() for row in rows]} if rows else {}
    return {**result.record, "origin": dict(result.subject.origin), "published": result.published, **rest}


def _widths(text: str) -> Any:
    """A word, or '0,3,largest' as a list."""
    names = [int(part) if part.isdigit() else part for part in text.split(",")]
    return text if names == [text] and text != "largest" else names


COMMAND = Command(
    "validate",
    "Measure the accuracy of weights and exported networks on the evaluation images of a data set.",
    add_arguments,
    run,
)
