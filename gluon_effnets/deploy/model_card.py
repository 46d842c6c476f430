"""The model card of an exported network: Markdown below YAML, as the hubs for models read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml

from ..complexity import count
from ..detection.registry import described_detector, described_detector_info
from ..models.catalog import described_info
from ..models.registry import described_network
from ..tables import Table
from .description import Description
from .forms import form_of

__all__ = ["model_card"]

_RUNTIMES = {"mxnet": "MXNet 1.9.1", "onnx": "ONNX Runtime", "tvm": "Apache TVM"}


def model_card(description) -> str:
    """Return the card of an export.

    It says what the description says and what can be counted, and leaves accuracy, purpose and limits to whoever
    publishes the weights, under a heading of their own.

    Args:
        description: The JSON file that `export` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not describe an exported network.
    """
    path = Path(description).expanduser()
    about = Description.read(path)
    info = described_info(about.model)
    task = "object-detection" if about.task else "image-classification"
    head: Dict[str, Any] = {
        "library_name": "gluon_effnets",
        "pipeline_tag": task,
        "tags": [task, about.format, *([info.family] if info.family else [])],
    }
    license = about.license or (about.origin or {}).get("license")
    if license:
        head["license"] = license.lower()  # as the hubs spell them
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {about.model}",
        *_architecture(about),
        _facts(about, license),
        "## Images\n\n" + _images(about),
        "## How to run it\n\n" + _usage(about, path),
    ]
    if about.names:
        shown = ", ".join(about.names[:5]) + (f" ... {about.names[-1]}" if len(about.names) > 5 else "")
        parts.append(f"## Classes\n\n{len(about.names)}: {shown}")
    parts.append("## Accuracy, purpose and limits\n\nTo be told by whoever publishes these weights.")
    return "\n\n".join(parts) + "\n"


def _architecture(about: Description) -> List[str]:
    if about.task:
        detector = described_detector_info(about.model)
        if detector is None:
            return []
        source = detector.source or f"ours: {detector.reconstruction}"
        return [f"{detector.summary}\n\nSource of the architecture: {source}"]
    info = described_info(about.model)
    if not info.paper:
        return []
    return [f"{info.summary.partition(' Options:')[0]}\n\nSource of the architecture: {info.paper}"]


def _facts(about: Description, license: Optional[str]) -> str:
    rows: List[Tuple[str, str]] = [("files", ", ".join(f"`{name}`" for name in _files(about)))]
    rows.append(("runs in", _RUNTIMES[about.format]))
    form = form_of(about)
    if form:
        rows.append(("form", form))
    rows += _costs(about)
    if about.int8:
        rows.append(("numbers", "8 bits; " + ", ".join(f"{key} {value}" for key, value in about.int8.items())))
    if about.task:
        rows += _detections(about)
    else:
        rows.append(("logits", f"largest difference from the network {about.difference:.1e} of their deviation"))
    rows.append(("license of the weights", license or "not told"))
    rows += [(f"weights: {key}", value) for key, value in (about.origin or {}).items() if key != "license"]
    rows.append(("written by", ", ".join(f"{name} {version}" for name, version in about.versions.items())))
    return Table(["property", "value"], rows).markdown()


def _detections(about: Description) -> List[Tuple[str, str]]:
    rows = [("gives", ", ".join(about.outputs) + " in pixels of the input")]
    chosen = about.selection or {}
    rule = f"scores above {chosen['score_above']:g}, overlaps of at most {chosen['overlap']:g}"
    rows.append(("detections", f"{rule}, {chosen['per_image']} for an image"))
    off = f"largest difference from the detector {about.difference:.1e}"
    return [*rows, ("exactness", f"{off}, of 1 in scores, of the image's side in corners")]


def _files(about: Description) -> List[str]:
    return list(dict.fromkeys([*about.files, *(name for route in about.routes for name in route.files)]))


def _costs(about: Description) -> List[Tuple[str, str]]:
    """Parameters and multiply-adds of the network, or nothing for one that cannot be built here."""
    build = described_detector if about.task else described_network
    net = build(about.model, about.num_classes, about.options)
    if net is None:
        return []
    cost = count(net, about.image_size)
    size = f"{about.image_size} x {about.image_size}"
    return [("parameters", f"{cost.params:,}"), ("multiply-adds", f"{cost.madds:,} at {size}")]


def _images(about: Description) -> str:
    steps = f"{about.preprocessing}."
    if about.task:
        size, shown = about.image_size, about.preprocessing._replace(image_size=None, crop=None)
        steps = f"Resized to {size} x {size} in whatever ratio, {shown}."
    if about.normalized_inside:
        inside = json.dumps({key: list(value) for key, value in about.normalized_inside.items()})
        steps += f" The graph normalizes by itself: {inside}."
    return steps


def _usage(about: Description, path: Path) -> str:
    if about.task:
        return _usage_of_detector(about, path)
    text = f"```\npython -m gluon_effnets predict {path.name} photo.jpg\n```"
    if about.format == "onnx":
        text += (
            "\n\nWithout MXNet:\n\n```python\nfrom gluon_effnets.runtime import load\n\n"
            f'print(load("{path.name}").top("photo.jpg"))\n```'
        )
    return text


def _usage_of_detector(about: Description, path: Path) -> str:
    if about.format == "onnx":
        return (
            f"```\npython -m gluon_effnets.runtime {path.name} photo.jpg\n```\n\n```python\n"
            f'from gluon_effnets.runtime import load\n\nprint(load("{path.name}")("photo.jpg", score_above=0.5))\n```'
        )
    return (
        "```python\nfrom gluon_effnets.deploy import open_exported\n\n"
        f'boxes, scores, classes = open_exported("{path.name}").detect(images, sizes)\n```'
    )
