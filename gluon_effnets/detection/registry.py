"""get_detector: detectors by name, as get_model gives networks."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

import mxnet as mx

from .._resources import results
from ..files.mistakes import as_mistakes
from ..files.schema import check_type
from ..files.text import shortened
from ..models import params
from .boxes import Selection
from .classes import check_classes
from .detector import Detector

__all__ = [
    "DetectorInfo",
    "described_detector",
    "described_detector_info",
    "detector_info",
    "get_detector",
    "is_detector",
    "list_detectors",
    "load_detector",
    "register_detector",
]

_MOST_PARAMETERS = 1 << 29
# What a file may never decide: it would read other files, or take another device.
_OF_CALLERS = {"classes", "ctx", "name", "params", "prefix", "pretrained", "pretrained_base", "root", "selection"}


@dataclasses.dataclass(frozen=True)
class DetectorInfo:
    """All that is known about a registered detector without building it.

    Attributes:
        name: As in `list_detectors()`.
        summary: First line of the doc-string.
        base: The network of `list_models()` that it stands on.
        source: The code that fixes its numbers; empty where they are ours.
        reconstruction: What no source fixes, and is ours; empty if nothing is.
        classes: Number of classes if none is asked for.
        image_size: Side of the images, in pixels, if none is asked for.
        computed: Rows of results/computed_detectors.json: options, parameters, multiply-adds and anchors.
    """

    name: str
    summary: str
    base: str
    source: str
    reconstruction: str = ""
    classes: int = 20
    image_size: int = 320
    computed: Sequence[Mapping[str, Any]] = ()


class _Entry(NamedTuple):
    build: Callable[..., Detector]
    info: DetectorInfo
    hidden: bool


_entries: Dict[str, _Entry] = {}


def register_detector(
    *,
    base: str,
    source: str = "",
    reconstruction: str = "",
    classes: int = 20,
    image_size: int = 320,
    hidden: bool = False,
) -> Callable:
    """Make a decorator that registers a function `name(classes, pretrained_base, ctx, **options) -> Detector`.

    Args:
        base: The network that the detector stands on.
        source: The code that fixes its numbers.
        reconstruction: What no source fixes, and is ours.
        classes: Number of classes if none is asked for.
        image_size: Side of the images, in pixels, if none is asked for.
        hidden: Built by name, but not listed.

    Raises:
        ValueError: If the name is taken.
    """

    def decorate(build):
        name = build.__name__
        if name in _entries:
            raise ValueError(f"detector name {name} is registered already")
        summary = (build.__doc__ or "").strip().split("\n")[0]
        info = DetectorInfo(name, summary, base, source, reconstruction, classes, image_size)
        _entries[name] = _Entry(build, info, hidden)
        return build

    return decorate


def list_detectors() -> List[str]:
    """Return the names of the detectors, sorted."""
    return sorted(name for name, entry in _entries.items() if not entry.hidden)


def is_detector(name: str) -> bool:
    """Whether a name is a detector's; hidden ones count.

    Args:
        name: Any text.
    """
    return name.lower() in _entries


def detector_info(name: str) -> DetectorInfo:
    """Return what is known about a detector without building it. Raises ValueError for an unknown name.

    Args:
        name: As in `list_detectors()`.
    """
    rows = results("computed_detectors").get(_known(name), [])
    return dataclasses.replace(_entries[_known(name)].info, computed=tuple(rows))


def get_detector(
    name: str,
    classes: Union[int, Sequence[str], None] = None,
    pretrained_base: Any = False,
    ctx=mx.cpu(),
    **options,
) -> Detector:
    """Build a detector by name.

    Args:
        name: As in `list_detectors()`.
        classes: Number of the classes, the background not counted, or their names; None: `DetectorInfo.classes`.
        pretrained_base: Weights of the network that the detector stands on, as `pretrained` of `get_model`: False; a
            path of a `.params` file; or True for published weights. `initialize` then leaves them as they are.
        ctx: Context of these weights.
        options: Of the detector: `form` and `selection`, and those of its network.

    Raises:
        ValueError: For an unknown name, or weights of another network.
        TypeError: For an unknown option, or an argument of another type.
        FileNotFoundError: If `pretrained_base` finds no file.

    Example:
        >>> net = get_detector("ssdlite320_mobilenext_x1_0", classes=["rbc", "wbc", "platelets"])
    """
    entry = _entries[_known(name)]
    classes = entry.info.classes if classes is None else classes
    check_classes(classes, f"classes of {name}")
    if options.get("selection") is not None:
        check_type("selection", options["selection"], Selection, words="a Selection")
    named = classes if isinstance(classes, int) else list(classes)
    try:
        with as_mistakes(f"{name} cannot be built with {shortened(options, 40)}"):
            net = entry.build(named, pretrained_base, ctx, **options)
    except ValueError as error:
        if isinstance(error.__cause__, TypeError):  # of an unknown option
            raise error.__cause__ from None
        raise
    net.info = detector_info(name)
    return net


def load_detector(path, ctx=mx.cpu(), *, name: Optional[str] = None, **options) -> Detector:
    """Build the detector whose weights a `.params` file holds, with its classes and options, and load them.

    Args:
        path: A file of `save_parameters`; or, for the `name`, arrays by the places of the parameters without more, as
            Gluon writes them.
        ctx: Context of the weights.
        name: The detector that it must be; None: any.
        options: Of the detector that no file knows, such as `selection`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no detector of this package, or another one than `name`.

    Example:
        >>> net = load_detector("runs/bccd/ssdlite320_mobilenext_x1_0.params")
    """
    if str(path) == "pretrained" and not os.path.isfile(path):
        raise FileNotFoundError(
            "no detector has published weights here: train one on published weights of its network (pretrained_base), "
            "or load an official checkpoint by load_official"
        )
    stored = params.read(path)
    model = stored.identity.get("model", name and _known(name))
    if model not in _entries or (name is not None and _known(name) != model):
        wanted = "a detector of list_detectors()" if name is None else _known(name)
        raise ValueError(f"{path} holds the weights of {shortened(model or 'an unknown network')}, not of {wanted}")
    definition = {key: value for key, value in stored.identity.items() if key != "model"}
    if stored.identity:
        found = _described(model, definition, lambda build: _classes_in(stored, build), options)
    else:  # as others write them: they say nothing of their network
        found = get_detector(model, _classes_in(stored, functools.partial(_get, model, options)), **options)
    if found is None:
        raise ValueError(f"{path} is of a form of {model} that is not known here: {shortened(definition)}")
    params.assign(found, stored, path, ctx=ctx)
    return found


def described_detector(name: str, classes: int, definition: Mapping[str, Any]) -> Optional[Detector]:
    """Build the detector that a file describes, without weights; None if it cannot be built here.

    A file may be a stranger's: nothing that it names is imported or opened.

    Args:
        name: Of the detector.
        classes: Number of classes, without the background.
        definition: As `Detector.definition` gives it.
    """
    return _described(name, definition, lambda build: classes, {}) if name in _entries else None


def described_detector_info(name: str) -> Optional[DetectorInfo]:
    """Return what is known about the detector that a file names; None if it is not known here. Nothing is imported."""
    return detector_info(name) if name in _entries else None


def _described(
    name: str, definition: Mapping[str, Any], classes: Callable[[Callable], int], own: Mapping[str, Any]
) -> Optional[Detector]:
    """The detector of a definition; `classes` gets what builds it with some number of classes."""
    base = definition.get("base", {})
    if not isinstance(base, dict) or _OF_CALLERS & (base.keys() | definition.keys()):
        return None
    given = {key: value for key, value in {**base, **definition}.items() if key not in ("base", "image_size")}
    wanted = json.loads(json.dumps(dict(definition)))
    # Some detectors are made for images of any size, others take no such option.
    for size in ({}, {"image_size": definition.get("image_size")}):
        build = functools.partial(_get, name, {**given, **size, **own})
        try:
            net = build(classes(build))
        except (TypeError, ValueError, mx.base.MXNetError):  # options of another version, or a stranger's
            continue
        number = sum(math.prod(param.shape) for param in net.collect_params().values() if param.shape)
        if json.loads(json.dumps(net.definition())) == wanted and number <= _MOST_PARAMETERS:
            return net
    return None


def _get(name: str, options: Mapping[str, Any], classes: int) -> Detector:
    return get_detector(name, classes, **options)


def _classes_in(stored: params.Stored, build: Callable[[int], Detector]) -> int:
    """The number of classes of stored heads, whose sizes grow evenly with it."""
    if stored.card.classes is not None:
        return len(stored.card.classes)
    one, two = ({k: p.shape for k, p in build(n)._collect_params_with_prefix().items()} for n in (1, 2))
    for key in one:
        if one[key] != two[key] and key in stored.arrays:
            pairs = zip(one[key], two[key], stored.arrays[key].shape)
            return next(1 + (size - a) // (b - a) for a, b, size in pairs if a != b)
    raise ValueError("there are no heads for classes in these weights")


def _known(name: str) -> str:
    found: Optional[str] = name.lower() if isinstance(name, str) and name.lower() in _entries else None
    if found is None:
        near = difflib.get_close_matches(str(name), _entries, 3, 0.3) or sorted(_entries)
        raise ValueError(f"unknown detector {shortened(name)}; the nearest are {', '.join(near)}")
    return found
