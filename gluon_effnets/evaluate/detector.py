"""What is evaluated of detection: a detector from weights or from an export, with images whose boxes are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, cast

import numpy as np

from ..complexity import count_params
from ..deploy import load_routed, open_exported
from ..deploy.description import Description
from ..detection import Detector, load_detector
from ..detection.registry import described_detector
from ..models import Preprocessing, params
from ..models.card import complete_preprocessing
from ..train.config import load_recipe
from ..train.data import Data, DetectionBatch, open_data
from ..train.data.settings import parse_source
from .subject import context, fitting, order_in_data, with_preprocessing

if TYPE_CHECKING:
    from ..train.data.detection.data import DetectionData

__all__ = [
    "METRICS",
    "DetectorSubject",
    "default_metric",
    "describes_detector",
    "detector_subject",
    "open_detector",
    "open_detector_export",
]

METRICS = ("voc07", "voc12", "coco")
_ANY_MODEL = "mobilenet_v1_x1_0"  # makes a recipe, of which the data section alone is asked for
Arrays = Tuple[np.ndarray, np.ndarray, np.ndarray]


class DetectorSubject(NamedTuple):
    """A detector that is evaluated.

    Attributes:
        model: Name in `list_detectors()`, or what its export says.
        where: The file that it comes from.
        data: With the evaluation images, and with the preprocessing of `protocol`.
        detect: Batch -> boxes (n, K, 4) in pixels of the originals, scores and classes (n, K) of its valid images;
            classes in the order of the data, -1 where there is no detection.
        protocol: Where the preprocessing is from, as the end of a sentence.
        num_params: None if it is unknown.
        origin: Of weights that others trained; see `Card`.
        classes: Names, or None.
        net: None for an export.
    """

    model: str
    where: str
    data: DetectionData
    detect: Callable[[DetectionBatch], Arrays]
    protocol: str
    num_params: Optional[int]
    origin: Mapping[str, str] = {}
    classes: Optional[Sequence[str]] = None
    net: Optional[Detector] = None

    def name_of(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.classes[label] if self.classes else str(label)


def default_metric(source: str) -> str:
    """The scores that are usual for a kind of data: COCO's for its own, else those of VOC2007."""
    return "coco" if parse_source(source).kind == "coco" else "voc07"


def describes_detector(path) -> bool:
    """Whether the JSON file of an export is a detector's; not, where it cannot be read."""
    try:
        return Description.read(path).task == "detection"
    except (OSError, ValueError):
        return False


def open_detector(
    name: str,
    weights: str,
    source: str,
    overrides: Sequence[str] = (),
    options: Optional[Dict[str, Any]] = None,
    protocol: str = "recorded",
) -> DetectorSubject:
    """Open the `.params` file of a detector with evaluation images.

    Args:
        name: A name of `list_detectors()`.
        weights: The file.
        source: Of the images, KIND[:PATH], a kind with boxes.
        overrides: Settings of the data ('data.eval_batch_size=4') that go before the recorded ones.
        options: Of the detector, such as `selection`.
        protocol: See `open_pair`.

    Raises:
        ValueError: Weights, detector and data do not fit together, or numbers are not finite.
        FileNotFoundError: A file is missing.

    Example:
        >>> subject = open_detector("ssdlite320_mobilenext_x1_0", "w.params", "voc:VOCdevkit")
    """
    net = load_detector(weights, context(), name=name, **(options or {}))
    params.require_finite(net, weights)
    net.hybridize(static_alloc=True, static_shape=True)
    data, shown = _data(complete_preprocessing(net), weights, source, overrides, protocol)
    return detector_subject(net, data, weights, shown)


def detector_subject(
    net: Detector, data: DetectionData, weights: str = "memory", protocol: str = ""
) -> DetectorSubject:
    """Return an open detector with its data as a subject; classes are compared by name.

    Args:
        net: With weights.
        data: With evaluation images of the detector's size, and with its preprocessing.
        weights: Where the weights come from, for messages.
        protocol: Where the preprocessing is from.

    Raises:
        ValueError: Detector and data do not fit together.
    """
    fitting(data, weights, net.num_classes, net.in_channels, net.image_size, detects=True)
    ctx, number = context(), _numbers_in_data(net.classes, data, weights)

    def detect(batch: DetectionBatch) -> Arrays:
        # Rows that only fill the last batch would cost as much as all others.
        pixels = batch.data[: batch.num_valid].as_in_context(ctx)
        return _in_data([array.asnumpy() for array in net.detect(pixels, _sizes(batch))], number)

    about = (net.identity["model"], weights, data, detect, protocol, count_params(net))
    return DetectorSubject(*about, net.origin, data.class_names or net.classes, net)


def open_detector_export(
    path: str, source: str, overrides: Sequence[str] = (), protocol: str = "recorded", trust: bool = False
) -> DetectorSubject:
    """Open an exported detector in its own runtime, with evaluation images.

    Args:
        path: The JSON file that `export` or `export_routed` wrote.
        source, overrides, protocol: As for `open_detector`.
        trust: Whether what runs code may be loaded; see `open_exported`.

    Raises:
        ValueError: Detector and data do not fit together, or what `open_exported` raises.
        FileNotFoundError: A file is missing.
    """
    about = Description.read(path)
    data, shown = _data(about.preprocessing, path, source, overrides, protocol)
    fitting(data, path, about.num_classes, about.in_channels, about.image_size, detects=True)
    run: Any = (load_routed if about.routes else open_exported)(path, trust=trust)
    number = _numbers_in_data(about.names, data, path)

    def detect(batch: DetectionBatch) -> Arrays:
        pixels = batch.data[: batch.num_valid].asnumpy()
        return _in_data(run.detect(pixels, _sizes(batch)), number)

    described = described_detector(about.model, about.num_classes, about.options)
    num_params = None if described is None else count_params(described)
    found = (about.model, str(path), data, detect, shown, num_params)
    return DetectorSubject(*found, about.origin or {}, data.class_names or about.names)


def _data(
    recorded: Preprocessing, where: str, source: str, overrides: Sequence[str], protocol: str
) -> Tuple[DetectionData, str]:
    """The images as they are to be shown, and where their preprocessing is from."""
    usual = [f"model={_ANY_MODEL}", f"data.source={source}", f"data.image_size={recorded.image_size}"]
    settings = load_recipe(None, [*usual, *overrides]).data
    shown = with_preprocessing(settings, recorded, where, overrides, protocol)
    return cast("DetectionData", open_data(shown.settings, seed=0)), shown.protocol


def _numbers_in_data(names: Optional[Sequence[str]], data: Data, where: str) -> Optional[np.ndarray]:
    """The place in the data of every class of a detector; None if they are in one order."""
    order = order_in_data(names, data, where)
    return None if order is None else np.argsort(order)


def _sizes(batch: DetectionBatch) -> np.ndarray:
    """Height and width of the originals."""
    return np.array([truth.size for truth in batch.truths], np.float32)


def _in_data(found: Sequence[Any], number: Optional[np.ndarray]) -> Arrays:
    """Boxes, scores and classes with the numbers that the classes have in the data."""
    boxes, scores, classes = map(np.asarray, found)
    if number is not None:
        classes = np.where(classes < 0, classes, number[np.maximum(classes, 0).astype(int)])
    return boxes, scores, classes
