"""Accuracy of given weights on the evaluation images of a data set."""

from __future__ import annotations

import functools
import logging
import math
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from ..models import ClassificationNet
from ..train.data import Data
from ..train.dist import Workers
from ..train.evaluation import Score, evaluate
from ..train.tasks.width_scores import Which, require_slimmable, route_sums, width_list, width_sums
from .answers import ask
from .int8_accuracy import QuantizedRow, compare_quantized, installed_runtimes
from .published import is_imagenet
from .subject import as_in_data, context, open_pair, subject_of

__all__ = [
    "as_in_data",
    "calibration_images",
    "for_calibration",
    "is_imagenet",
    "open_pair",
    "scores_of",
    "validate",
    "validate_in_8_bits",
    "width_scores",
]

log = logging.getLogger(__name__)

Labelled = List[Tuple[mx.nd.NDArray, mx.nd.NDArray]]


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
    return ask(subject_of(net, data, weights)).scores if widths is None else width_scores(net, data, weights, widths)


def width_scores(
    net: ClassificationNet, data: Data, weights: str, widths: Union[str, Sequence[Which]]
) -> Dict[str, float]:
    """Return the scores of `validate` at some widths, for a pair whose classes are in one order."""
    scores = evaluate(net, data, Workers(), context(), _score(net, widths))
    wrong = [key for key, value in scores.items() if not math.isfinite(value)]
    if wrong:
        raise ValueError(
            f"the {wrong[0]} of {weights} is {scores[wrong[0]]}, no finite number: its weights are damaged, or they do "
            "not go with these images"
        )
    return scores


def _score(net: ClassificationNet, widths: Union[str, Sequence[Which]]) -> Score:
    """What is summed over a batch."""
    slimmable = require_slimmable(net, f"widths={widths}", gates=widths == "dynamic")
    if widths == "dynamic":
        return functools.partial(route_sums, slimmable)
    return functools.partial(width_sums, slimmable, widths=width_list(slimmable, widths))


def for_calibration(images: int) -> List[str]:
    """The settings of data for `calibration_images`: batches that a few images fill, whatever a recipe would have."""
    return [f"data.batch_size={min(max(images, 1), 32)}"]


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


def _parted(data: Data, images: int) -> Tuple[List[mx.nd.NDArray], Labelled]:
    """Images to calibrate with, and labelled ones to compare on: others, also where there are none for training."""
    evaluation = [(batch.data[: batch.num_valid], batch.label[: batch.num_valid]) for batch in data.val_batches()]
    if data.num_train:
        return calibration_images(data, images), evaluation
    if not 0 < images < data.num_val:
        raise ValueError(f"{images} of {data.num_val} images cannot calibrate and leave some to compare on")
    # A file may be sorted by class: the images of the calibration stand at equal distances.
    taken = np.zeros(data.num_val, bool)
    taken[np.arange(images) * data.num_val // images] = True
    calibration: Labelled = []
    rest: Labelled = []
    place = 0
    for pixels, labels in evaluation:
        chosen = taken[place : place + len(labels)]
        place += len(labels)
        for parts, wanted in ((calibration, chosen), (rest, ~chosen)):
            if wanted.any():
                index = mx.nd.array(np.flatnonzero(wanted), dtype="int32", ctx=pixels.context)
                parts.append((pixels.take(index), labels.take(index)))
    log.warning(
        "%s has no training images: %d of its %d evaluation images calibrate, and are left out of the comparison",
        data.settings.source, images, data.num_val,
    )  # fmt: skip
    return [pixels for pixels, _ in calibration], rest


def validate_in_8_bits(
    files: Dict[str, str],
    source: str,
    overrides: Sequence[str] = (),
    images: int = 256,
    mode: str = "naive",
    runtimes: Optional[Sequence[str]] = None,
    python: Optional[str] = None,
) -> List[QuantizedRow]:
    """Compare trained networks {name: weights} with themselves after 8-bit quantization, on evaluation images.

    The ranges are calibrated with `images` training images, not augmented, or where there are none with so many of the
    evaluation images, which are left out of the comparison; `mode`, for MXNet, is 'naive' or 'entropy'.
    `runtimes` are some of `INT8_RUNTIMES` of int8_accuracy; None: MXNet and ONNX Runtime, if it is installed. `python`
    is the interpreter that has OpenVINO and NNCF, if not this one.
    Raises what `open_pair` raises, ImportError for a given runtime that is not installed.
    """
    if runtimes is None:
        runtimes = installed_runtimes()
    rows = []
    for name, weights in files.items():
        # Data of its own for every network: weights may want different preprocessing.
        net, data = open_pair(name, weights, source, [*for_calibration(images), *overrides, "data.augment=evaluation"])
        as_in_data(net, data, weights)
        # MXNet's 8-bit kernels are those of the CPU.
        net.collect_params().reset_ctx(mx.cpu())
        calibration, evaluation = _parted(data, images)
        rows += compare_quantized({name: net}, calibration, evaluation, mode, runtimes, python)
    return rows
