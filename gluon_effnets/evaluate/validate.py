"""Accuracy of given weights on the evaluation images of a data set."""

from __future__ import annotations

import functools
import json
import logging
import math
import re
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import mxnet as mx

from .. import _resources
from ..class_names import identifier
from ..models import ClassificationNet, Preprocessing, get_model, model_info, params
from ..models.card import compare_names
from ..train.build import model_options
from ..train.config import load_recipe
from ..train.data import Batch, Data, DataSettings, open_data, parse_source
from ..train.data.settings import SETTING_OF, UNCROPPED, settings_for
from ..train.dist import Workers
from ..train.evaluation import Score, evaluate
from ..train.metrics import classification_sums
from ..train.tasks.width_scores import Which, require_slimmable, route_sums, width_list, width_sums
from .int8_accuracy import QuantizedRow, compare_quantized, installed_runtimes

__all__ = [
    "as_in_data",
    "calibration_images",
    "is_imagenet",
    "open_pair",
    "scores_of",
    "validate",
    "validate_in_8_bits",
]

log = logging.getLogger(__name__)


def open_pair(
    name: str, weights: str, source: str, overrides: Sequence[str] = (), options: Optional[Dict[str, Any]] = None
) -> Tuple[ClassificationNet, Data]:
    """Return a trained network, hybridized, and data for it with an evaluation part.

    Images get the preprocessing that the file is marked with; what it leaves open is taken from configs/<kind>.yaml if
    there is one, else it is the usual one for the model. `overrides` ('data.image_size=32') go before all of these,
    `options` go to the network. A warning says where file and user want different preprocessing.

    Raises:
        ValueError: Weights, network and data do not fit together, or numbers are not finite.
        FileNotFoundError: A file is missing.
    """
    path = _resources.folder("configs") / f"{parse_source(source).kind}.yaml"
    given = [f"model={name}", f"data.source={source}", *overrides]
    usual = [] if path.is_file() else _usual_settings(name)
    recipe = load_recipe(path if path.is_file() else None, [*usual, *given])
    stored = params.read(weights)
    data = open_data(_as_weights_want(recipe.data, stored, weights, overrides), seed=0)
    # What the file does not say follows from the data; get_model takes the rest from the file.
    inferred = {k: v for k, v in model_options(recipe, data).items() if k not in stored.identity}
    options = {**inferred, **(options or {}), "classes": None}
    net = get_model(name, pretrained=weights, ctx=_context(), **options)
    for what in ("num_classes", "in_channels"):
        own, theirs, name = getattr(net, what), getattr(data, what), what.replace("num_", "").replace("_", " ")
        if own != theirs:
            raise ValueError(f"{weights} has {own} {name}, but {source} has {theirs}")
    if not data.num_val:
        raise ValueError(f"{source} has no evaluation images")
    params.require_finite(net, weights)
    net.hybridize(static_alloc=True, static_shape=True)
    return net, data


def _usual_settings(name: str) -> List[str]:
    info = model_info(name)
    usual = Preprocessing(interpolation=info.interpolation, crop=info.crop, image_size=info.input_size)
    return [f"data.{key}={json.dumps(value)}" for key, value in settings_for(usual).items()]


def _as_weights_want(
    settings: DataSettings, stored: params.Stored, weights: str, overrides: Sequence[str]
) -> DataSettings:
    """The settings with the preprocessing that the file is marked with, but for what the user set."""
    if stored.preprocessing is None:
        return settings
    marked = settings_for(stored.preprocessing)
    if parse_source(settings.source).kind in UNCROPPED:
        marked.pop(SETTING_OF["crop"], None)
    explicit = {override.partition("=")[0].partition(".")[2] for override in overrides} & marked.keys()
    against = [key for key in sorted(explicit) if getattr(settings, key) != marked[key]]
    if against:
        asked = ", ".join(f"{key} {getattr(settings, key)} instead of {marked[key]}" for key in against)
        log.warning("%s is marked with another preprocessing than it gets as asked: %s", weights, asked)
    wanted = replace(settings, **{key: value for key, value in marked.items() if key not in explicit})
    if wanted != settings:
        pairs = zip(wanted.preprocessing, stored.preprocessing)
        shown = Preprocessing._make(None if marked is None else value for value, marked in pairs)
        log.warning("%s gets the preprocessing that it is marked with: %s", weights, shown)
    return wanted


def _context() -> mx.Context:
    return mx.gpu() if mx.context.num_gpus() else mx.cpu()


def validate(
    name: str,
    weights: str,
    source: str,
    overrides: Sequence[str] = (),
    options: Optional[Dict[str, Any]] = None,
    widths: Union[str, Sequence[Which], None] = None,
) -> Dict[str, float]:
    """Return top1, top5 (0..1) and loss of a `.params` file on the evaluation part of `source` (KIND[:PATH]).

    Of a slimmable network these are by default those of the largest network. `widths` is 'dynamic', for the scores of
    the routed network (`route_sums`), or what `width_list` takes: the scores then are those of the first of these
    widths, and `top1_<width>` of each.
    The other arguments, and what is raised, are those of `open_pair`; ValueError too for widths that do not exist, or
    if the classes have other names in the data than in the file. Names in another order are put in order.
    """
    return scores_of(*open_pair(name, weights, source, overrides, options), weights, widths)


def scores_of(
    net: ClassificationNet, data: Data, weights: str, widths: Union[str, Sequence[Which], None] = None
) -> Dict[str, float]:
    """Return the scores of `validate` for a pair of `open_pair`, whose weights come from the file `weights`."""
    as_in_data(net, data, weights)
    scores = evaluate(net, data, Workers(), _context(), _score(net, widths))
    wrong = [key for key, value in scores.items() if not math.isfinite(value)]
    if wrong:
        raise ValueError(
            f"the {wrong[0]} of {weights} is {scores[wrong[0]]}, no finite number: its weights are damaged, or they do "
            "not go with these images"
        )
    return scores


def as_in_data(net: ClassificationNet, data: Data, weights: str) -> None:
    """Put the classes of a network in the order that they have in the data.

    Raises ValueError, naming the difference, if they are others. Nothing is done where one side has no names.
    """
    source, difference = data.settings.source, compare_names(net.classes, data.class_names)
    if difference is None:
        return
    if not net.reorder_classes(data.class_names or ()):
        raise ValueError(f"the classes of {source} are not those of {weights}: {difference}")
    log.warning("the classes of %s are not in the order of %s, %s: compared by name", source, weights, difference)


def is_imagenet(name: str, data: Data) -> bool:
    """Whether published accuracies of a model on ImageNet can be compared with those on data.

    These have ImageNet's 1000 classes, by identifier (n01440764, ...) or by name (tench to toilet tissue), or without
    names its 50,000 evaluation images; the images are of the model's own size.
    """
    if data.num_classes != 1000 or data.image_size != model_info(name).input_size:
        return False
    names = data.class_names
    if names is None:
        return data.num_val == 50_000
    by_identifier = all(re.fullmatch(r"n\d{8}", identifier(text)) for text in names)
    return by_identifier or (names[0].lower().startswith("tench") and names[-1].lower().startswith("toilet"))


def _score(net: ClassificationNet, widths: Union[str, Sequence[Which], None]) -> Score:
    """What is summed over a batch."""

    def of_largest(batch: Batch) -> Dict[str, float]:
        return classification_sums(net(batch.data), batch.label, batch.num_valid)

    if widths is None:
        return of_largest
    slimmable = require_slimmable(net, f"widths={widths}", gates=widths == "dynamic")
    if widths == "dynamic":
        return functools.partial(route_sums, slimmable)
    return functools.partial(width_sums, slimmable, widths=width_list(slimmable, widths))


def calibration_images(data: Data, images: int) -> List[mx.nd.NDArray]:
    """Batches (N, C, H, W) of at most `images` training images in all; open `data` with augment=evaluation.

    Raises:
        ValueError: There are none.
    """
    if images < 1:
        raise ValueError(f"the number of calibration images is {images}; it must be at least 1")
    found: List[mx.nd.NDArray] = []
    for batch in data.train_batches(0):
        found.append(batch.data[: images - sum(map(len, found))])
        if sum(map(len, found)) >= images:
            break
    if not found:
        raise ValueError("the training images do not fill a batch: set data.batch_size to less")
    return found


def validate_in_8_bits(
    files: Dict[str, str],
    source: str,
    overrides: Sequence[str] = (),
    images: int = 256,
    mode: str = "naive",
    runtimes: Optional[Sequence[str]] = None,
) -> List[QuantizedRow]:
    """Compare trained networks {name: weights} with themselves after 8-bit quantization, on evaluation images.

    The ranges are calibrated with `images` training images, not augmented; `mode`, for MXNet, is 'naive' or 'entropy'.
    `runtimes` are some of `INT8_RUNTIMES` of int8_accuracy; None: those that are installed.
    Raises what `open_pair` raises, ImportError for a given runtime that is not installed.
    """
    if runtimes is None:
        runtimes = installed_runtimes()
    rows = []
    for name, weights in files.items():
        # Data of its own for every network: weights may want different preprocessing.
        net, data = open_pair(name, weights, source, [*overrides, "data.augment=evaluation"])
        as_in_data(net, data, weights)
        # MXNet's 8-bit kernels are those of the CPU.
        net.collect_params().reset_ctx(mx.cpu())
        calibration = calibration_images(data, images)
        evaluation = [(batch.data[: batch.num_valid], batch.label[: batch.num_valid]) for batch in data.val_batches()]
        rows += compare_quantized({name: net}, calibration, evaluation, mode, runtimes)
    return rows
