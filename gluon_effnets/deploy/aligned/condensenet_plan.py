"""How every layer of a condensed CondenseNet is computed: the cheapest variant by what was measured in a runtime."""

from __future__ import annotations

import itertools
from typing import Dict, NamedTuple

__all__ = ["COSTS", "IN_MXNET", "LayerShape", "Variant", "cheapest"]


class Variant(NamedTuple):
    """What computes the three parts of a layer.

    product : the learned 1x1 convolution: 'gathered' (channels are selected into its groups) or 'dense' (all channels
        are read, with weights of zero).
    spatial : the 3x3 convolution: 'grouped', 'transposed' (the transposed convolution with flipped weights, which sums
        up 9 small maps of its few outputs where the other unfolds 9 maps of its many inputs) or 'depthwise' (a filter
        for every pair of input and output, and a 1x1 convolution that sums).
    update : the reactivation: 'gathered' (groups for what one of them updates, a dense convolution for what several do,
        selected into the order of the features) or 'dense'.
    """

    product: str
    spatial: str
    update: str


class LayerShape(NamedTuple):
    """Numbers of a layer: channels read, new features, groups of both convolutions, pixels of a map, if it updates."""

    channels: int
    growth: int
    groups: int
    spatial_groups: int
    pixels: int
    updates: bool


class Costs(NamedTuple):
    """What a runtime takes on one core with AVX-512, in picoseconds for every number.

    multiply : of a multiply-add. lanes : outputs of a group that are computed at once, used or not.
    unfold, fold : of the 9 copies of an input or output that a 3x3 convolution makes, or a transposed one sums up.
    copy : of a number that is selected, joined or passes an activation.
    relayout : of a number on its way between the plain layout, which selections have, and that of convolutions.
    plain_groups : whether grouped convolutions take the plain layout.
    """

    multiply: float
    lanes: int
    unfold: float
    fold: float
    copy: float
    relayout: float
    plain_groups: bool


# Measured with single operators of the shapes of CondenseNetV2-C (docs/condensenet.md tells the runtimes' figures).
COSTS: Dict[str, Costs] = {
    "onnx": Costs(multiply=26, lanes=1, unfold=210, fold=140, copy=120, relayout=120, plain_groups=True),
    "openvino": Costs(multiply=25, lanes=16, unfold=0, fold=900, copy=120, relayout=300, plain_groups=False),
}


# Of MXNet's runtime, in which the others were slower for every layer.
IN_MXNET = Variant("gathered", "grouped", "dense")


def cheapest(shape: LayerShape, costs: Costs) -> Variant:
    """Return the variant of a layer with the lowest estimate."""
    gathered = itertools.product(("gathered",), ("grouped", "transposed", "depthwise"), ("gathered",))
    variants = [Variant(*parts) for parts in gathered] + [Variant("dense", "depthwise", "dense")]
    return min(variants, key=lambda variant: _estimate(variant, shape, costs))


def _estimate(variant: Variant, shape: LayerShape, costs: Costs) -> float:
    """Picoseconds of a layer."""
    channels, growth, groups = shape.channels, shape.growth, shape.groups
    hidden, own = 4 * growth, growth // shape.spatial_groups  # outputs of one group of the 3x3 convolution
    changes = 0 if costs.plain_groups else 1

    def product(inputs: int, outputs: int, in_groups: int = 1) -> float:
        filled = -(-outputs // in_groups // costs.lanes) * costs.lanes
        return costs.multiply * inputs * filled

    if variant.product == "dense":
        total = costs.copy * channels + product(channels, hidden)
        total += (costs.relayout * (2 * channels + growth)) if costs.plain_groups else 0
    else:
        total = costs.copy * (2 * channels + hidden) + product(channels, hidden, groups)
        total += changes * costs.relayout * (channels + 2 * hidden)
    if variant.spatial == "depthwise":
        total += costs.multiply * 9 * hidden * own + product(hidden * own, max(growth, 16))
        total += 0 if variant.product == "dense" else (costs.relayout - costs.copy) * hidden
    else:
        # A GEMM of fewer columns than 64 takes the time of 64.
        waste = 1 if costs.lanes > 1 else -(-shape.pixels // 64) * 64 / shape.pixels
        total += waste * 9 * product(hidden, growth, shape.spatial_groups)
        whole_blocks = own % 16 == 0
        total += costs.fold * 9 * growth if variant.spatial == "transposed" else 0
        total += costs.unfold * 9 * hidden if variant.spatial == "grouped" and not whole_blocks else 0
    if not shape.updates:
        total += costs.copy * channels  # joined to the new features
    elif variant.update == "dense":
        total += product(growth, channels)
    else:
        total += product(growth, channels, groups) + product(growth, channels // 4) + costs.copy * 3 * channels
        total += changes * costs.relayout * channels
    return total * shape.pixels
