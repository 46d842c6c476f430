"""Accuracy of given weights on the evaluation images of a data set."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import mxnet as mx

from .. import _resources
from ..models import ClassificationNet, get_model, params
from ..train.build import model_options
from ..train.config import load_recipe
from ..train.data import Batch, Data, open_data, parse_source
from ..train.dist import Workers
from ..train.evaluation import Score, evaluate
from ..train.metrics import classification_sums
from ..train.tasks.width_scores import Which, require_slimmable, route_sums, width_list, width_sums
from .int8_accuracy import QuantizedRow, compare_quantized, installed_runtimes

__all__ = ["calibration_images", "open_pair", "validate", "validate_in_8_bits"]

log = logging.getLogger(__name__)


def open_pair(
    name: str, weights: str, source: str, overrides: Sequence[str] = (), options: Optional[Dict[str, Any]] = None
) -> Tuple[ClassificationNet, Data]:
    """Return a trained network, hybridized, and data for it with an evaluation part.

    Image size and preprocessing are those of configs/<kind>.yaml if there is one, else 224 pixels with ImageNet's
    normalization. A file that is marked with another preprocessing gets that, with a warning; `overrides`
    ('data.image_size=32') go before all of these, `options` go to the network.

    Raises:
        ValueError: Weights, network and data do not fit together.
        FileNotFoundError: A file is missing.
    """
    path = _resources.folder("configs") / f"{parse_source(source).kind}.yaml"
    given = [f"model={name}", f"data.source={source}", *overrides]
    recipe = load_recipe(path if path.is_file() else None, given)
    stored, data = params.read(weights), open_data(recipe.data, seed=0)
    _as_weights_want(data, stored, weights, overrides)
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
    net.hybridize(static_alloc=True, static_shape=True)
    return net, data


def _as_weights_want(data: Data, stored: params.Stored, weights: str, overrides: Sequence[str]) -> None:
    """Give the images the preprocessing that the file is marked with, but for what the user set."""
    if stored.preprocessing is None:
        return
    explicit = {override.partition("=")[0] for override in overrides}
    wanted = {key: value for key, value in stored.preprocessing._asdict().items() if f"data.{key}" not in explicit}
    settings = replace(data.settings, **wanted)
    if settings != data.settings:
        log.warning("%s gets the preprocessing that it is marked with: %s", weights, settings.preprocessing)
        data.settings = settings


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
    The other arguments, and what is raised, are those of `open_pair`; ValueError too for widths that do not exist.
    """
    net, data = open_pair(name, weights, source, overrides, options)
    return evaluate(net, data, Workers(), _context(), _score(net, widths))


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
    """Batches (N, C, H, W) of at most `images` training images in all; open `data` with augment=none.

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
        net, data = open_pair(name, weights, source, [*overrides, "data.augment=none"])
        # MXNet's 8-bit kernels are those of the CPU.
        net.collect_params().reset_ctx(mx.cpu())
        calibration = calibration_images(data, images)
        evaluation = [(batch.data[: batch.num_valid], batch.label[: batch.num_valid]) for batch in data.val_batches()]
        rows += compare_quantized({name: net}, calibration, evaluation, mode, runtimes)
    return rows
