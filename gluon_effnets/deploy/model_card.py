"""The model card of an exported network: Markdown below YAML, as the hubs for models read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml

from ..complexity import count
from ..models.registry import described_info, described_network
from ..tables import Table
from .description import Description

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
    head: Dict[str, Any] = {
        "library_name": "gluon_effnets",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", about.format, *([info.family] if info.family else [])],
    }
    license = about.license or (about.origin or {}).get("license")
    if license:
        head["license"] = license.lower()  # as the hubs spell them
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {about.model}",
        *(
            [f"{info.summary.partition(' Options:')[0]}\n\nSource of the architecture: {info.paper}"]
            if info.paper
            else ()
        ),
        _facts(about, license),
        "## Images\n\n" + _images(about),
        "## How to run it\n\n" + _usage(about, path),
    ]
    if about.names:
        shown = ", ".join(about.names[:5]) + (f" ... {about.names[-1]}" if len(about.names) > 5 else "")
        parts.append(f"## Classes\n\n{len(about.names)}: {shown}")
    parts.append("## Accuracy, purpose and limits\n\nTo be told by whoever publishes these weights.")
    return "\n\n".join(parts) + "\n"


def _facts(about: Description, license: Optional[str]) -> str:
    rows: List[Tuple[str, str]] = [("files", ", ".join(f"`{name}`" for name in _files(about)))]
    rows.append(("runs in", _RUNTIMES[about.format]))
    rows += _costs(about)
    if about.int8:
        rows.append(("numbers", "8 bits; " + ", ".join(f"{key} {value}" for key, value in about.int8.items())))
    rows.append(("logits", f"largest difference from the network {about.difference:.1e} of their deviation"))
    rows.append(("license of the weights", license or "not told"))
    rows += [(f"weights: {key}", value) for key, value in (about.origin or {}).items() if key != "license"]
    rows.append(("written by", ", ".join(f"{name} {version}" for name, version in about.versions.items())))
    return Table(["property", "value"], rows).markdown()


def _files(about: Description) -> List[str]:
    return list(dict.fromkeys([*about.files, *(name for route in about.routes for name in route.files)]))


def _costs(about: Description) -> List[Tuple[str, str]]:
    """Parameters and multiply-adds of the network, or nothing for one that cannot be built here."""
    net = described_network(about.model, about.num_classes, about.options)
    if net is None:
        return []
    cost = count(net, about.image_size)
    size = f"{about.image_size} x {about.image_size}"
    return [("parameters", f"{cost.params:,}"), ("multiply-adds", f"{cost.madds:,} at {size}")]


def _images(about: Description) -> str:
    steps = f"{about.preprocessing}."
    if about.normalized_inside:
        inside = json.dumps({key: list(value) for key, value in about.normalized_inside.items()})
        steps += f" The graph normalizes by itself: {inside}."
    return steps


def _usage(about: Description, path: Path) -> str:
    text = f"```\npython -m gluon_effnets predict {path.name} photo.jpg\n```"
    if about.format == "onnx":
        text += (
            "\n\nWithout MXNet:\n\n```python\nfrom gluon_effnets.runtime import load\n\n"
            f'print(load("{path.name}").top("photo.jpg"))\n```'
        )
    return text
