"""The command `info`: all about one model."""

from __future__ import annotations

import argparse
import json
from typing import Any, Dict, List, Tuple

from .. import get_model, model_info
from ..complexity import RULES, condensed_options, count
from ..models import ClassificationNet
from ..tables import Table
from .command import Command
from .detectors import detector_facts, detector_rows, is_detector
from .options import network_options, read_options, table_format

__all__ = ["COMMAND"]

Rows = List[Tuple[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `info`."""
    parser.add_argument("name", help="The model or detector, see python -m gluon_effnets list, list --detectors.")
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="Side of the image to count multiply-adds for (default: the model's own).",
    )
    parser.add_argument("--classes", type=int, metavar="N", help="Number of classes (default: the model's own).")
    table_format(parser, exact="json has all numbers under names of their own")
    network_options(parser)


def run(args: argparse.Namespace) -> None:
    """Print what is known of the model."""
    detector = is_detector(args.name)
    facts = _facts_of_detector(args) if detector else _facts(args)
    if args.format == "json":
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    table = Table(["property", "value"], detector_rows(facts) if detector else _rows(facts))
    print(table.text(header=False) if args.format == "text" else table.written(args.format))


def _facts_of_detector(args: argparse.Namespace) -> Dict[str, Any]:
    if args.image_size:
        raise ValueError("--image-size is for classifiers: the anchors of a detector are for images of one size")
    return detector_facts(args.name, args.classes, read_options(args.option))


def _facts(args: argparse.Namespace) -> Dict[str, Any]:
    info, options = model_info(args.name), read_options(args.option)
    net = get_model(info.name, classes=args.classes, **options)
    size = args.image_size or info.input_size
    changed = condensed_options(net)
    deployed = None
    if changed:
        condensed = get_model(info.name, classes=args.classes, **{**options, **changed})
        deployed = {"options": list(changed), **_costs(condensed, size)}
    return {
        "model": info.name,
        "summary": info.summary,
        "paper": info.paper,
        "reconstruction": info.reconstruction,
        "aliases": list(info.aliases),
        "image_size": size,
        **_costs(net, size),
        "deployed": deployed,
        "stages": [stage._asdict() for stage in net.stage_info],
        "num_features": net.num_features,
        "num_classes": net.num_classes,
        "mean": list(info.mean),
        "std": list(info.std),
        "interpolation": info.interpolation,
        "crop": info.crop,
        "published": list(info.published),
        "recipes": list(info.recipes),
    }


def _costs(net: ClassificationNet, size: int) -> Dict[str, Any]:
    costs = {rule: count(net, size, rule) for rule in RULES}
    return {"params": costs["conv_fc"].params, "madds": {rule: cost.madds for rule, cost in costs.items()}}


def _rows(facts: Dict[str, Any]) -> Rows:
    rows: Rows = [("model", facts["model"]), ("", facts["summary"]), ("paper", facts["paper"])]
    if facts["reconstruction"]:
        rows.append(("reconstruction", facts["reconstruction"]))
    if facts["aliases"]:
        rows.append(("also called", ", ".join(facts["aliases"])))
    rows += _cost_rows(facts, facts["image_size"])
    if facts["deployed"]:
        rows.append(("deployed", f"after the pruning, with {', '.join(facts['deployed']['options'])}:"))
        rows += _cost_rows(facts["deployed"], facts["image_size"])
    for number, stage in enumerate(facts["stages"], 1):
        rows.append((f"stage {number}", f"{stage['channels']} channels, stride {stage['stride']}"))
    rows.append(("features", f"{facts['num_features']}, {facts['num_classes']} classes"))
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    preprocessing = f"RGB 0..255, mean {mean}, std {std}, {facts['interpolation']}, crop {facts['crop']}"
    rows.append(("evaluation", preprocessing))
    rows += [("published", f"{row['what']}: {row['value']} ({row['source']})") for row in facts["published"]]
    rows += [("recipe", name) for name in facts["recipes"]] or [("recipe", "none of its own")]
    return rows


def _cost_rows(costs: Dict[str, Any], size: int) -> Rows:
    rows: Rows = [("parameters", f"{costs['params']:,}")]
    for rule, madds in costs["madds"].items():
        rows.append(("MAdds", f"{madds:,} at {size} x {size} ({rule}: {RULES[rule]})"))
    return rows


COMMAND = Command("info", "Show all about one model.", add_arguments, run)
