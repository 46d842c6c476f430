"""get_detector: detectors by name, as get_model gives networks."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

import mxnet as mx

from .._resources import results
from .detector import Detector

__all__ = ["DetectorInfo", "detector_info", "get_detector", "list_detectors", "register_detector"]


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


_entries: Dict[str, _Entry] = {}


def register_detector(
    *, base: str, source: str = "", reconstruction: str = "", classes: int = 20, image_size: int = 320
) -> Callable:
    """Make a decorator that registers a function `name(classes, pretrained_base, ctx, **options) -> Detector`.

    Args:
        base: The network that the detector stands on.
        source: The code that fixes its numbers.
        reconstruction: What no source fixes, and is ours.
        classes: Number of classes if none is asked for.
        image_size: Side of the images, in pixels, if none is asked for.

    Raises:
        ValueError: If the name is taken.
    """

    def decorate(build):
        name = build.__name__
        if name in _entries:
            raise ValueError(f"detector name {name} is registered already")
        summary = (build.__doc__ or "").strip().split("\n")[0]
        _entries[name] = _Entry(build, DetectorInfo(name, summary, base, source, reconstruction, classes, image_size))
        return build

    return decorate


def list_detectors() -> List[str]:
    """Return the names of the detectors, sorted."""
    return sorted(_entries)


def detector_info(name: str) -> DetectorInfo:
    """Return what is known about a detector without building it. Raises ValueError for an unknown name."""
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
        TypeError: For an unknown option.
        FileNotFoundError: If `pretrained_base` finds no file.

    Example:
        >>> net = get_detector("ssdlite320_mobilenext_x1_0", classes=["rbc", "wbc", "platelets"])
    """
    entry = _entries[_known(name)]
    classes = entry.info.classes if classes is None else classes
    if not isinstance(classes, int):
        classes = list(classes)
    net = entry.build(classes, pretrained_base, ctx, **options)
    net.info = detector_info(name)
    return net


def _known(name: str) -> str:
    found: Optional[str] = name.lower() if isinstance(name, str) and name.lower() in _entries else None
    if found is None:
        near = difflib.get_close_matches(str(name), _entries, 3, 0.3) or sorted(_entries)
        raise ValueError(f"unknown detector {name!r}; the nearest are {', '.join(near)}")
    return found
