"""What an export says of itself, in the JSON file beside it or inside of an ONNX file, checked before it is used."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from .detections import Choice
from .files import beside, named, read_bytes
from .preprocessing import CHANNEL_ORDERS, Preprocessing

__all__ = ["INTERPOLATIONS", "Exported", "Facts", "facts_of_metadata", "read_description"]

INTERPOLATIONS = ("bilinear", "pillow_bilinear", "pillow_bicubic")
PLAIN, ROUTED = "gluon_effnets export", "gluon_effnets routed export"
_MOST_BYTES, _MOST_CLASSES, _MOST_PIXELS, _MOST_BOXES = 1 << 24, 1 << 20, 1 << 13, 1 << 24
_TEXTS = (
    "model",
    "channel_order",
    "interpolation",
    "license",
    "task",
)  # all else is JSON in the metadata of ONNX files


class Facts(NamedTuple):
    """What is known of a network.

    Attributes:
        model: Its name in gluon_effnets.
        num_classes: Logits for each image.
        preprocessing: What is done to an image, complete.
        names: Of the classes, or None.
        license: Of its weights, as it was given to the export, or None.
        outputs: Of a detector, the names of what its graph gives.
        choice: Of a detector, how detections are chosen among all boxes; None of a classifier.
    """

    model: str
    num_classes: int
    preprocessing: Preprocessing
    names: Optional[Tuple[str, ...]] = None
    license: Optional[str] = None
    outputs: Tuple[str, ...] = ()
    choice: Optional[Choice] = None


class Exported(NamedTuple):
    """A description, and the content of the ONNX files that it names.

    Attributes:
        facts: Of the network.
        first: The graph, or the graph before the decision of a gate.
        routes: The graphs that a gate chooses from; none where all is in the first file.
    """

    facts: Facts
    first: bytes
    routes: Tuple[bytes, ...] = ()


def read_description(path: Path) -> Exported:
    """Read the JSON file of an export for ONNX, and the files beside it that it names.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: The JSON file is no description, names other files than such beside it, or a file is not the one
            that was described.
    """
    try:
        content = json.loads(read_bytes(path, "exported network", _MOST_BYTES).decode("utf-8"))
        if content.get("kind") not in (PLAIN, ROUTED):
            raise KeyError("kind")
    # Not JSON, nested too deep, not an object, or another JSON file.
    except (ValueError, RecursionError, AttributeError, KeyError):
        raise ValueError(f"{named(path)} does not describe an exported network, or is cut short") from None
    if content.get("format") != "onnx":
        raise ValueError(
            f"{named(path)} is an export for {content.get('format')!r:.40}, which needs gluon_effnets itself; here "
            "runs what was exported with --format onnx"
        )
    names = content.get("head" if content["kind"] == ROUTED else "files")
    routes = content.get("routes", []) if content["kind"] == ROUTED else []
    try:
        [first] = names
        tails = [name for route in routes for name in route["files"]]
    except (TypeError, ValueError, KeyError):
        raise ValueError(f"{named(path)} does not name the one ONNX file of a network") from None
    digests = content.get("sha256") or {}
    files = [_checked(path, name, digests) for name in (first, *tails)]
    return Exported(_facts(content, path), files[0], tuple(files[1:]))


def facts_of_metadata(metadata: Mapping[str, str], path) -> Optional[Facts]:
    """Return what an ONNX file says of its network; None if it says nothing.

    Raises:
        ValueError: It says what cannot be.
    """
    if "num_classes" not in metadata or "mean" not in metadata:
        return None
    try:
        values = {key: text if key in _TEXTS else json.loads(text) for key, text in metadata.items() if key in _KEYS}
    except (ValueError, RecursionError):
        raise ValueError(f"{named(path)}: the metadata are not those of an export of gluon_effnets") from None
    return _facts(values, path)


def _checked(path: Path, name: Any, digests: Any) -> bytes:
    """The content of a file that a description names."""
    content = read_bytes(beside(path, name), "ONNX file")
    expected = digests.get(name) if isinstance(digests, dict) else digests
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(
            f"{name} beside {named(path)} is cut short or from another export: export again, or copy both again"
        )
    return content


def _facts(values: Mapping[str, Any], where) -> Facts:
    found: Dict[str, Any] = {}
    for key, (fits, rule) in _KEYS.items():
        value = found[key] = values.get(key)
        if not fits(value):
            raise ValueError(f"{where}: {key} is {value!r:.80}; it must be {rule}")
    names, channels = found["names"], len(found["mean"])
    if len(found["std"]) != channels:
        raise ValueError(f"{where}: mean is for {channels} channels, std for {len(found['std'])}")
    if names is not None and len(names) != found["num_classes"]:
        raise ValueError(f"{where} has {len(names)} names, but {found['num_classes']} classes")
    preprocessing = Preprocessing(
        tuple(map(float, found["mean"])),
        tuple(map(float, found["std"])),
        found["channel_order"],
        found["interpolation"],
        float(found["crop"]),
        found["image_size"],
        bool(found["crop_first"]),
    )
    if len({found[key] is None for key in ("task", "outputs", "selection")}) > 1:
        raise ValueError(f"{where}: task, outputs and selection belong together")
    names, outputs = None if names is None else tuple(names), tuple(found["outputs"] or ())
    choice = Choice.of_table(found["selection"]) if found["selection"] else None
    return Facts(found["model"], found["num_classes"], preprocessing, names, found["license"], outputs, choice)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_list(value: Any, fits: Callable[[Any], bool], lengths: Tuple[int, ...] = ()) -> bool:
    return isinstance(value, List) and all(map(fits, value)) and (not lengths or len(value) in lengths)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_selection(value: Any) -> bool:
    try:
        choice = Choice.of_table(value)
        places = [place for limit in choice.limits for place in (limit.begin + 1, limit.end, limit.best)]
        flags = all(isinstance(limit.per_class, bool) for limit in choice.limits)
    except (TypeError, KeyError, AttributeError):
        return False
    shares = all(_is_number(share) and 0 <= share <= 1 for share in (choice.score_above, choice.overlap))
    return shares and flags and all(map(_is_whole(_MOST_BOXES), (choice.per_image, *places)))


# The keys that are used here: what fits, and how it is said.
_KEYS: Dict[str, Tuple[Callable[[Any], bool], str]] = {
    "model": (_is_text, "a text"),
    "num_classes": (_is_whole(_MOST_CLASSES), "a whole number, at least 1"),
    "image_size": (_is_whole(_MOST_PIXELS), f"a whole number of 1 to {_MOST_PIXELS}"),
    "crop": (lambda value: _is_number(value) and 0.01 <= value <= 1, "a number of 0.01 to 1"),
    "interpolation": (INTERPOLATIONS.__contains__, f"one of {', '.join(INTERPOLATIONS)}"),
    "crop_first": (lambda value: value is None or isinstance(value, bool), "true or false"),
    "mean": (lambda value: _is_list(value, _is_number, (1, 3)), "a number for each of 1 or 3 channels"),
    "std": (lambda value: _is_list(value, lambda n: _is_number(n) and n > 0, (1, 3)), "above 0 for 1 or 3 channels"),
    "channel_order": (CHANNEL_ORDERS.__contains__, f"one of {', '.join(CHANNEL_ORDERS)}"),
    "names": (lambda value: value is None or _is_list(value, _is_text), "a list of texts, or null"),
    "license": (lambda value: value is None or _is_text(value), "a text"),
    "task": (lambda value: value in (None, "detection"), "'detection', or absent"),
    "outputs": (
        lambda value: value in (None, ["boxes", "scores"], ["boxes", "scores", "classes"]),
        "boxes, scores and, unless all boxes are given, classes",
    ),
    "selection": (lambda value: value is None or _is_selection(value), "how detections are chosen"),
}
