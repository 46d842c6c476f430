"""What is evaluated: a network from weights or from an export, with evaluation images as it wants them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .. import _resources
from ..complexity import count_params
from ..deploy import load_routed, open_exported
from ..deploy.compiled.run import compiled_network
from ..deploy.description import Description
from ..models import ClassificationNet, Preprocessing, get_model, model_info, params
from ..models.card import compare_names, order_of
from ..models.catalog import described_info
from ..models.info import ModelInfo
from ..models.registry import described_network
from ..train.build import model_options
from ..train.config import load_recipe
from ..train.data import Batch, Data, DataSettings, open_data, parse_source
from ..train.data.settings import SETTING_OF, UNCROPPED, settings_for
from ..train.evaluation import placed

__all__ = [
    "EXPORTED",
    "PROTOCOLS",
    "Shown",
    "Subject",
    "as_in_data",
    "context",
    "fitting",
    "open_export",
    "open_pair",
    "open_weights",
    "order_in_data",
    "subject_of",
    "with_preprocessing",
]

log = logging.getLogger(__name__)

EXPORTED = (".json", ".onnx", ".so")  # endings of the files of exports; the first describes the others
PROTOCOLS = ("recorded", "usual")


class Subject(NamedTuple):
    """A network that is evaluated.

    Attributes:
        model: Name in `list_models()`, or what its export says.
        where: The file that it comes from.
        data: With the evaluation images, in the order of the classes and with the preprocessing of `protocol`.
        logits: Batch -> logits (n, classes) of its valid images.
        protocol: Where the preprocessing is from, as the end of a sentence.
        num_params: None if it is unknown.
        origin: Of weights that others trained; see `Card`.
        classes: Names, or None.
        net: None for an export.
    """

    model: str
    where: str
    data: Data
    logits: Callable[[Batch], np.ndarray]
    protocol: str
    num_params: Optional[int]
    origin: Mapping[str, str] = {}
    classes: Optional[Sequence[str]] = None
    net: Optional[ClassificationNet] = None

    def name_of(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.classes[label] if self.classes else str(label)


class Shown(NamedTuple):
    """Settings of the data, and where the preprocessing in them is from."""

    settings: DataSettings
    protocol: str


def open_weights(
    name: str,
    weights: str,
    source: str,
    overrides: Sequence[str] = (),
    options: Optional[Dict[str, Any]] = None,
    protocol: str = "recorded",
) -> Subject:
    """Open a `.params` file with evaluation images; the arguments, and what is raised, are those of `open_pair`.

    ValueError, too, if the classes have other names in the data than in the file. Names in another order are put in
    the order of the data.
    """
    net, data, shown = _open_pair(name, weights, source, overrides, options, protocol)
    as_in_data(net, data, weights)
    return subject_of(net, data, weights, shown.protocol)


def subject_of(net: ClassificationNet, data: Data, weights: str, protocol: str = "") -> Subject:
    """Return a pair of `open_pair` as a subject; the classes are in the order of the data."""
    ctx = context()
    run = compiled_network(net, ctx)

    def logits(batch: Batch) -> np.ndarray:
        return run(placed(batch, ctx).data)[: batch.num_valid].astype("float32").asnumpy()

    about = (net.identity["model"], weights, data, logits, protocol, count_params(net))
    return Subject(*about, net.origin, data.class_names or net.classes, net)


def open_export(
    path: str, source: str, overrides: Sequence[str] = (), protocol: str = "recorded", trust: bool = False
) -> Subject:
    """Open an exported network, routed or not, in its own runtime, with evaluation images.

    Args:
        path: The JSON file that `export`, `export_routed` or the command `tvm` wrote.
        source: Of the images, KIND[:PATH].
        overrides: Settings of the data that go before the recorded ones.
        protocol: See `open_pair`.
        trust: Whether what runs code may be loaded; see `open_exported`.

    Raises:
        ValueError: Network and data do not fit together, or what `open_exported` and `load_routed` raise.
        FileNotFoundError: A file is missing.
    """
    about = Description.read(path)
    if about.task:
        raise ValueError(f"{path} describes a detector, which has no logits; open_detector_export opens it")
    settings = _settings(described_info(about.model), source, overrides)
    shown = with_preprocessing(settings, about.preprocessing, path, overrides, protocol)
    size = None if about.input_shape[2:] == (None, None) else about.image_size
    data = fitting(open_data(shown.settings, seed=0), path, about.num_classes, about.in_channels, size)
    opened: Any = load_routed(path, trust=trust) if about.routes else open_exported(path, trust)
    run = opened.logits if about.routes else opened
    order = order_in_data(about.names, data, path)

    def logits(batch: Batch) -> np.ndarray:
        found = run(batch.data[: batch.num_valid].asnumpy())
        return found if order is None else found[:, order]

    found = (about.model, str(path), data, logits, shown.protocol, _params_of(about))
    return Subject(*found, about.origin or {}, data.class_names or about.names)


def open_pair(
    name: str,
    weights: str,
    source: str,
    overrides: Sequence[str] = (),
    options: Optional[Dict[str, Any]] = None,
    protocol: str = "recorded",
) -> Tuple[ClassificationNet, Data]:
    """Return a trained network, hybridized, and data for it with an evaluation part.

    Images get the preprocessing that the file is marked with; what it leaves open is taken from configs/<kind>.yaml if
    there is one, else it is the usual one for the model. A warning says where file and user want different
    preprocessing.

    Args:
        name: A name of `list_models()`.
        weights: A `.params` file.
        source: Of the images, KIND[:PATH].
        overrides: Settings of the data ('data.image_size=32') that go before all of these.
        options: Of the network.
        protocol: 'recorded', or 'usual': of the file's preprocessing mean, std and channel order alone are kept.

    Raises:
        ValueError: Weights, network and data do not fit together, or numbers are not finite.
        FileNotFoundError: A file is missing.
    """
    net, data, _ = _open_pair(name, weights, source, overrides, options, protocol)
    return net, data


def _open_pair(
    name: str,
    weights: str,
    source: str,
    overrides: Sequence[str],
    options: Optional[Dict[str, Any]],
    protocol: str,
) -> Tuple[ClassificationNet, Data, Shown]:
    stored = params.read(weights)
    settings = _settings(model_info(name), source, overrides)
    shown = with_preprocessing(settings, stored.preprocessing, weights, overrides, protocol)
    data = open_data(shown.settings, seed=0)
    # What the file does not say follows from the data; get_model takes the rest from the file.
    recipe = load_recipe(*_recipe(model_info(name), source, overrides))
    inferred = {k: v for k, v in model_options(recipe, data).items() if k not in stored.identity}
    options = {**inferred, **(options or {}), "classes": None}
    net = get_model(name, pretrained=weights, ctx=context(), **options)
    fitting(data, weights, net.num_classes, net.in_channels)
    params.require_finite(net, weights)
    net.hybridize(static_alloc=True, static_shape=True)
    return net, data, shown


def fitting(
    data: Data, where: str, num_classes: int, in_channels: int, image_size: Optional[int] = None, detects: bool = False
) -> Data:
    """The data, if a network of so many classes and channels can be evaluated on them; else ValueError.

    `image_size` : the only one that the network takes; None: any.
    """
    data.check_purpose(detects, where)
    source = data.settings.source
    for own, theirs, what in (
        (num_classes, data.num_classes, "classes"),
        (in_channels, data.in_channels, "in channels"),
    ):
        if own != theirs:
            raise ValueError(f"{where} has {own} {what}, but {source} has {theirs}")
    if not data.num_val:
        raise ValueError(f"{source} has no evaluation images")
    if image_size not in (None, data.image_size):
        raise ValueError(f"{where} takes images of {image_size} x {image_size} alone, not {data.image_size}")
    return data


def _recipe(info: ModelInfo, source: str, overrides: Sequence[str]) -> Tuple[Any, List[str]]:
    """The recipe of a kind of data, if there is one, and what is set in it: at least what is usual for the model."""
    path = _resources.folder("configs") / f"{parse_source(source).kind}.yaml"
    usual = [] if path.is_file() else _usual_settings(info)
    return path if path.is_file() else None, [*usual, f"model={info.name}", f"data.source={source}", *overrides]


def _usual_settings(info: ModelInfo) -> List[str]:
    usual = Preprocessing(interpolation=info.interpolation, crop=info.crop, image_size=info.input_size)
    return [f"data.{key}={json.dumps(value)}" for key, value in settings_for(usual).items()]


def _settings(info: ModelInfo, source: str, overrides: Sequence[str]) -> DataSettings:
    return load_recipe(*_recipe(info, source, overrides)).data


def with_preprocessing(
    settings: DataSettings, recorded: Optional[Preprocessing], where: str, overrides: Sequence[str], protocol: str
) -> Shown:
    """Return settings with the preprocessing of a protocol, but for what the user set.

    Args:
        settings: With what is usual, and with the overrides.
        recorded: The preprocessing that a file records, or None.
        where: That file.
        overrides: What the user set.
        protocol: See `open_pair`.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    source = settings.source
    uncropped = parse_source(source).kind in UNCROPPED
    explicit = {override.partition("=")[0].partition(".")[2] for override in overrides} & set(SETTING_OF.values())
    if uncropped and SETTING_OF["crop"] in explicit:
        raise ValueError(f"images of {source} show their object in full and are not cropped: leave out the crop")
    asked = f", {' and '.join(sorted(explicit))} as asked" if explicit else ""
    if recorded is None:
        return Shown(settings, f"usual, as {where} records nothing{asked}")
    wanted = settings_for(recorded if protocol == "recorded" else recorded.normalization)
    if protocol == "usual":
        wanted.pop(SETTING_OF["crop_first"])
    if uncropped:
        wanted.pop(SETTING_OF["crop"], None)
    against = [key for key in sorted(explicit & wanted.keys()) if getattr(settings, key) != wanted[key]]
    if against:
        changes = ", ".join(f"{key} {getattr(settings, key)} instead of {wanted[key]}" for key in against)
        log.warning("%s is marked with another preprocessing than it gets as asked: %s", where, changes)
    settings = replace(settings, **{key: value for key, value in wanted.items() if key not in explicit})
    return Shown(settings, f"{protocol}{asked}")


def context() -> mx.Context:
    """The device of evaluations: a GPU if there is one."""
    return mx.gpu() if mx.context.num_gpus() else mx.cpu()


def as_in_data(net: ClassificationNet, data: Data, weights: str) -> None:
    """Put the classes of a network in the order that they have in the data.

    Raises ValueError, naming the difference, if they are others. Nothing is done where one side has no names.
    """
    difference = compare_names(net.classes, data.class_names)
    if difference is None:
        return
    if not net.reorder_classes(data.class_names or ()):
        raise ValueError(_other_classes(data, weights, difference))
    _say_reordered(data, weights, difference)


def order_in_data(names: Optional[Sequence[str]], data: Data, where: str) -> Optional[np.ndarray]:
    """The places of the classes of the data among an export's; None if they are in order, or one side has no names."""
    difference = compare_names(names, data.class_names)
    if difference is None:
        return None
    order = order_of(names or (), data.class_names or ())
    if order is None:
        raise ValueError(_other_classes(data, where, difference))
    _say_reordered(data, where, difference)
    return np.array(order)


def _other_classes(data: Data, where: str, difference: str) -> str:
    return f"the classes of {data.settings.source} are not those of {where}: {difference}"


def _say_reordered(data: Data, where: str, difference: str) -> None:
    source = data.settings.source
    log.warning("the classes of %s are not in the order of %s, %s: compared by name", source, where, difference)


def _params_of(about: Description) -> Optional[int]:
    """The number of trained values of the network that was exported; files have BN folded in."""
    net = described_network(about.model, about.num_classes, about.options)
    return None if net is None else count_params(net)
