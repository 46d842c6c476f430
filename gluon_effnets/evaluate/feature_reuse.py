"""Which earlier features the layers of a CondenseNet read: maps of its weights, their pictures, and one number."""

from __future__ import annotations

from typing import List, NamedTuple

import numpy as np

from ..models import ClassificationNet
from ..nn import CondensedConv, DenseLayer, MaskedConv
from ..pictures import load_pyplot, save_picture

__all__ = ["EarlyShare", "draw_layer", "draw_reuse", "early_feature_share", "layer_weights", "reuse_map"]

NORMALIZATIONS = ("column", "none")


class EarlyShare(NamedTuple):
    """Share of the weights on early features, and what it would be if every layer used all its inputs alike."""

    share: float
    uniform: float


def layer_weights(net: ClassificationNet) -> List[np.ndarray]:
    """|weight x mask| of the learned 1x1 convolution of every dense layer, (outputs, inputs), first layer first.

    Trained and condensed networks give the same.

    Raises:
        ValueError: The network has no dense layers.
    """
    widths = _source_widths(net)
    return [_weights(layer.reduce, inputs) for layer, inputs in zip(_layers(net), np.cumsum(widths))]


def reuse_map(net: ClassificationNet) -> np.ndarray:
    """How strongly every layer reads the features of every source: array (sources, targets), both L, the layers.

    Source 0 is the first convolution, source s the new features of layer s; target t is the layer with number t + 1.
    A cell is the L1 norm of the weights (after the mask) from a channel of the source, its mean over the source's
    channels; NaN where the source comes after the target. Reactivations have no part in it. (CondenseNetV2, arXiv
    2104.04382, figure 7d, by the authors' script.)

    Raises:
        ValueError: The network has no dense layers.
    """
    widths, weights = _source_widths(net), layer_weights(net)
    borders = np.cumsum([0, *widths])
    cells = np.full((len(weights), len(weights)), np.nan)
    for target, weight in enumerate(weights):
        norms = weight.sum(axis=0, dtype=np.float64)
        for source in range(target + 1):
            cells[source, target] = norms[borders[source] : borders[source + 1]].mean()
    return cells


def normalized(cells: np.ndarray) -> np.ndarray:
    """Every column of a reuse map from its minimum to its maximum as 0 to 1, as in the paper's figure.

    What cannot be read counts as 0 there: only in the last column, where nothing is missing, the minimum is a source's.
    """
    known = np.nan_to_num(cells)
    low, high = known.min(axis=0), known.max(axis=0)
    return (cells - low) / np.maximum(high - low, np.finfo(float).tiny)


def early_feature_share(net: ClassificationNet) -> EarlyShare:
    """Share of the summed |weight x mask| of all layers whose source is at least L / 2 layers before, L being all.

    Raises:
        ValueError: The network has no dense layers.
    """
    widths = np.array(_source_widths(net)[:-1])
    mass = np.nan_to_num(reuse_map(net)) * widths[:, None]
    number = np.arange(len(widths))
    early = number[None, :] + 1 - number[:, None] >= len(widths) / 2
    readable = (number[:, None] <= number[None, :]) * widths[:, None]
    alike = mass.sum(axis=0) * readable / readable.sum(axis=0)
    return EarlyShare(float((mass * early).sum() / mass.sum()), float((alike * early).sum() / mass.sum()))


def draw_reuse(net: ClassificationNet, picture, normalize: str = "column", title: str = "") -> None:
    """Draw the reuse map of a network as a PNG; dashed lines divide the blocks.

    Args:
        net: A CondenseNet, trained or condensed.
        picture: The PNG file.
        normalize: One of NORMALIZATIONS.
        title: Above the picture.

    Raises:
        ValueError: The network has no dense layers, or `normalize` is none of these.
    """
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize is {normalize!r}; it must be one of {', '.join(NORMALIZATIONS)}")
    cells, pyplot = reuse_map(net), load_pyplot("the picture of the weights")
    figure, axes = pyplot.subplots(figsize=(6, 5), constrained_layout=True)
    image = axes.imshow(normalized(cells) if normalize == "column" else cells, cmap="jet", interpolation="nearest")
    for border in _block_ends(net)[:-1]:
        axes.axvline(border - 0.5, color="black", ls="--", lw=0.8)
    ticks = np.arange(0, len(cells), 1 if len(cells) <= 12 else 5)
    axes.set_xticks(ticks)
    axes.set_xticklabels(ticks + 1)
    axes.set_yticks(ticks)
    axes.set(xlabel="target layer", ylabel="source layer (0: first convolution)")
    axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.8)
    save_picture(figure, picture)


def draw_layer(net: ClassificationNet, picture, layer: int, title: str = "") -> None:
    """Draw |weight x mask| of one layer (from 1) as a PNG: its filters by groups, and what share each source has.

    Dropped weights are white, dashed lines divide the blocks that the inputs come from.

    Args:
        net: A CondenseNet, trained or condensed.
        picture: The PNG file.
        layer: Number of the dense layer, from 1.
        title: Above the picture.

    Raises:
        ValueError: There is no such layer, or no dense layer at all.
    """
    weights = layer_weights(net)
    if not 1 <= layer <= len(weights):
        raise ValueError(f"there is no layer {layer}; the dense layers of this network are 1 to {len(weights)}")
    weight, groups = weights[layer - 1], net.plan.learned.groups
    borders = np.cumsum([0, *_source_widths(net)[:layer]])
    pyplot = load_pyplot("the picture of the weights")
    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(8, 5), sharex=True, gridspec_kw={"height_ratios": [3, 1]}, constrained_layout=True
    )
    by_group = np.concatenate([weight[group::groups] for group in range(groups)])
    drawn = np.where(by_group > 0, by_group, np.nan)
    image = above.imshow(drawn, aspect="auto", interpolation="nearest", extent=(0, borders[-1], len(weight), 0))
    above.set_ylabel(f"filters, by {groups} groups")
    above.set_title(title, fontsize=9)
    shares = np.add.reduceat(weight.sum(axis=0), borders[:-1]) / weight.sum()
    below.bar(borders[:-1], shares, np.diff(borders), align="edge", edgecolor="white", lw=0.3, label="weights")
    below.step(borders, [*np.diff(borders) / borders[-1], 0], where="post", color="gray", lw=1, label="channels")
    below.set(xlabel="input channel", ylabel="share of a source")
    below.legend(fontsize=7)
    for axes in (above, below):
        for border in borders[[end + 1 for end in _block_ends(net) if end < layer]]:
            axes.axvline(border, color="black", ls="--", lw=0.8)
    figure.colorbar(image, ax=above)
    save_picture(figure, picture)


def _layers(net: ClassificationNet) -> List[DenseLayer]:
    found: List[DenseLayer] = []
    net.apply(lambda block: found.append(block) if isinstance(block, DenseLayer) else None)
    if not found:
        raise ValueError(f"{net.identity['model']} has no dense layers, as CondenseNets have")
    return found


def _source_widths(net: ClassificationNet) -> List[int]:
    """Channels of the first convolution, then the new features of every layer."""
    new = [layer.conv.weight.shape[0] for layer in _layers(net)]
    return [net.features[0][0].weight.shape[0], *new]


def _block_ends(net: ClassificationNet) -> List[int]:
    return list(np.cumsum([block.layers for block in net.plan.blocks]))


def _weights(convolution, inputs: int) -> np.ndarray:
    if isinstance(convolution, MaskedConv):
        return np.abs(convolution.masked_weight())
    assert isinstance(convolution, CondensedConv), convolution
    weight = np.abs(convolution.conv.weight.data().asnumpy()[:, :, 0, 0])
    groups = convolution.conv._kwargs["num_group"]
    index = convolution.index.data().asnumpy().reshape(groups, -1)
    full = np.zeros((len(weight), inputs), weight.dtype)
    for group, rows in enumerate(np.split(weight, groups)):
        # The rows of a group stand together here; in training and behind the shuffle they are interleaved.
        full[group::groups, index[group]] = rows
    return full
