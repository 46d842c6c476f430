"""What a run takes over from pretrained weights besides their numbers: normalization of images, statistics of BN."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from typing import Optional

import mxnet as mx

from ..detection import detector_info, is_detector
from ..models import ClassificationNet, params
from ..models.adapted import adapt_to_channels
from ..models.preprocessing import Preprocessing
from ..models.registry import stored_weights
from ..weights.conversion import weights_path
from .batch_statistics import restore_folded
from .config import Recipe
from .data import Data, DataSettings, parse_source

__all__ = ["data_settings", "restore_statistics"]

log = logging.getLogger(__name__)

_FOLDED_BATCHES = 10  # means and variances are then known to a few per cent


def data_settings(recipe: Recipe) -> DataSettings:
    """Return the data section of a recipe with the normalization that the pretrained weights want, if it says so.

    A warning tells where they want another one than the recipe has.

    Raises:
        ValueError: The recipe has no pretrained weights whose normalization it could take.
        FileNotFoundError: The weights are not there.
    """
    settings, path = recipe.data, _weights(recipe)
    if path is None:
        if settings.normalization == "pretrained":
            raise ValueError(
                "data.normalization is pretrained, but the recipe starts from no weights: set pretrained to a .params "
                "file, or data.normalization=own"
            )
        return settings
    wanted = params.read(path).card.preprocessing
    wanted = adapt_to_channels(wanted, 1 if parse_source(settings.source).kind == "digits" else len(settings.mean))
    if settings.normalization == "own":
        if not _same(wanted, settings.preprocessing):
            log.warning(
                "%s wants images %s, and is trained further with others, as data.mean, data.std and "
                "data.channel_order say: data.normalization=pretrained gives it what it wants",
                path,
                wanted.normalization,
            )
        return settings
    mean, std, channel_order = wanted.normalization[:3]
    return dataclasses.replace(settings, mean=mean, std=std, channel_order=channel_order, normalization="own")


def _weights(recipe: Recipe) -> Optional[str]:
    """The file of the weights that a recipe starts from, those of the network below a detector among them, or None."""
    base = recipe.model_options.get("pretrained_base")
    if not (is_detector(recipe.model) and base and not recipe.pretrained):
        return recipe.pretrained and weights_path(recipe.model, recipe.pretrained)
    return str(stored_weights(detector_info(recipe.model).base)) if base is True else str(base)


def _same(one: Preprocessing, other: Preprocessing) -> bool:
    """Whether two normalizations differ by no more than the digits that are left out of published ones."""
    numbers = [(*each.mean, *each.std) for each in (one, other)]
    near = all(abs(a - b) < 1 for a, b in zip(*numbers))
    return len(one.mean) == len(other.mean) and near and one.channel_order == other.channel_order


def restore_statistics(net: ClassificationNet, data: Data, ctx: mx.Context) -> int:
    """Give BN layers that weights for inference have folded away statistics of the first training batches again.

    Returns the number of these layers; see `restore_folded`.
    """
    batches = itertools.islice(data.train_batches(0), _FOLDED_BATCHES)
    found = restore_folded(net, (batch.data.as_in_context(ctx) for batch in batches))
    if found:
        log.warning("the weights are for inference: %d BN layers have statistics of the first batches now", found)
    return found
