"""Stored weights for images of another kind: with another number of channels, or for another stride of the stem."""

from __future__ import annotations

import logging
import math
from typing import Any, Dict, Mapping, Tuple

import mxnet as mx

from . import params
from .base import ClassificationNet, first_layer
from .preprocessing import Preprocessing

__all__ = ["adapt_stored", "adapt_to_channels"]

log = logging.getLogger(__name__)


def adapt_stored(net: ClassificationNet, stored: params.Stored, path, asked: Mapping[str, Any]) -> params.Stored:
    """Return the content of a file as `net` takes it, where the caller asked for another kind of images.

    Args:
        net: Built with the options that are asked for.
        stored: Of the file, for another number of channels of the images or another stride of the stem, or neither.
        path: Of the file, for the log, which tells what changed.
        asked: Options that the caller gave explicitly; what it left open is never adapted.
    """
    stride = asked.get("stem_stride")
    if stride is not None and stored.identity.get("stem_stride", stride) != stride:
        before = stored.identity["stem_stride"]
        log.warning("%s was trained with a stem stride of %s; here it is %s, as asked for", path, before, stride)
        stored = _changed(stored, f"stem stride {stride}", stem_stride=stride)
    return stored if asked.get("in_channels") is None else _adapt_channels(net, stored, path)


def adapt_to_channels(preprocessing: Preprocessing, channels: int) -> Preprocessing:
    """Return the preprocessing for images of another number of channels.

    One channel has the means of `mean` and `std`; more have them one after the other and, after the last, from the
    beginning again, in the order in which the network reads its channels.
    """
    mean, std = preprocessing.mean, preprocessing.std
    if channels == len(mean):
        return preprocessing
    if channels == 1:
        mean, std = ((sum(values) / len(values),) for values in (mean, std))
        return preprocessing._replace(mean=mean, std=std, channel_order="rgb")
    step = -1 if preprocessing.channel_order == "bgr" else 1
    mean, std = (_repeated(values[::step], channels) for values in (mean, std))
    return preprocessing._replace(mean=mean, std=std, channel_order="rgb")


def _repeated(values: Tuple[float, ...], number: int) -> Tuple[float, ...]:
    return (values * math.ceil(number / len(values)))[:number]


def _adapt_channels(net: ClassificationNet, stored: params.Stored, path) -> params.Stored:
    arrays, first = params.by_place(net, stored.arrays), first_layer(net)
    key = next((key for key, param in net._collect_params_with_prefix().items() if first and param is first.weight), "")
    if first is None or key not in arrays or getattr(first, "_kwargs", {}).get("num_group", 1) != 1:
        return stored
    weight, wanted = arrays[key], first.weight.shape
    before, channels = (shape[1] if len(shape) == 4 else 0 for shape in (weight.shape, wanted))
    # What differs otherwise is another network, and refused as such.
    if not before or before == channels or (weight.shape[0], *weight.shape[2:]) != (wanted[0], *wanted[2:]):
        return stored
    preprocessing = adapt_to_channels(stored.card.preprocessing, channels)
    log.warning(
        "%s has in_channels=%d: its first convolution is adapted to in_channels=%d; images for it: %s",
        path,
        before,
        channels,
        preprocessing,
    )
    stored = _changed(stored, f"first convolution adapted to in_channels={channels}", in_channels=channels)
    card = stored.card._replace(preprocessing=preprocessing)
    return stored._replace(arrays={**arrays, key: _with_channels(weight, channels)}, card=card)


def _with_channels(weight: mx.nd.NDArray, channels: int) -> mx.nd.NDArray:
    """A weight (out, channels, h, w) as timm adapts it: summed for one channel, else repeated with the same sum."""
    values = weight.astype("float32")
    before = weight.shape[1]
    if channels == 1:
        return values.sum(axis=1, keepdims=True).astype(weight.dtype)
    tiled = mx.nd.concat(*[values] * math.ceil(channels / before), dim=1)[:, :channels]
    return (tiled * (before / channels)).astype(weight.dtype)


def _changed(stored: params.Stored, how: str, **options: Any) -> params.Stored:
    """Another definition, which the origin of weights that others trained tells."""
    identity: Dict[str, Any] = {**stored.identity, **options} if stored.identity else {}
    origin = stored.card.origin
    if origin:
        origin = {**origin, "changed": ", ".join(filter(None, (origin.get("changed"), how)))}
    return stored._replace(identity=identity, card=stored.card._replace(origin=origin))
