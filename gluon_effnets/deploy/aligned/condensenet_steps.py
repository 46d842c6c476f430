"""The steps of a condensed layer, each in several variants: selection, activation, 3x3 convolution, reactivation."""

from __future__ import annotations

from typing import Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ...nn import ChannelShuffle, CondensedReactivation, HardSwish, concat_channels, plain_layout, select_channels
from ..graph.batch_norm import Affine
from .filters import Filter

__all__ = ["Limit", "Rows", "Update", "activation", "convolution_weight", "spatial"]

# In MXNet a 3x3 convolution with fewer inputs in a group takes up to five times as long (docs/condensenet.md).
LANES = 16
SMALLEST_SCALE = 1e-6  # of BN, that may be divided by


class Rows(HybridBlock):
    """Selects channels: (N, `channels`, H, W) -> (N, len(index), H, W)."""

    def __init__(self, channels: int, index: np.ndarray):
        super().__init__()
        self._channels = channels
        with self.name_scope():
            self.index = self.params.get("index", shape=(len(index),), dtype="int32", grad_req="null")
        self.index.initialize(mx.init.Zero())
        self.index.set_data(mx.nd.array(index, dtype="int32"))

    def hybrid_forward(self, F, x, index):
        return select_channels(F, x, index, self._channels)


class Limit(HybridBlock):
    """max(x, -shift / scale) for every channel: what BN and ReLU leave to do, the rest being linear.

    relu(s x + t) = s max(x, -t / s) + t for s > 0; `absorbed` has the second part.
    """

    def __init__(self, affine: Affine):
        super().__init__()
        self._affine = affine
        with self.name_scope():
            self.limit = self.params.get("limit", shape=(1, len(affine.scale), 1, 1), grad_req="null", init="zeros")
        self.limit.initialize()
        self.limit.set_data(mx.nd.array((-affine.shift / affine.scale).reshape(1, -1, 1, 1)))

    @staticmethod
    def fits(affine: Affine) -> bool:
        """Whether every scale may be divided by."""
        return bool((affine.scale > SMALLEST_SCALE).all())

    def absorbed(self, conv: Filter) -> Filter:
        """The 1x1 convolution behind BN and ReLU as the one behind the limit."""
        scale, shift = (values.reshape(conv.groups, 1, -1) for values in self._affine)
        weight = conv.weight.reshape(conv.groups, -1, scale.shape[-1])
        bias = conv.bias + (weight * shift).sum(axis=-1).ravel()
        return conv._replace(weight=(weight * scale).reshape(conv.weight.shape), bias=bias)

    def hybrid_forward(self, F, x, limit):
        return F.broadcast_maximum(x, limit)


def activation(affine: Affine, relu: bool, in_mxnet: bool) -> HybridBlock:
    """BN and activation of a map."""
    block = nn.HybridSequential()
    if in_mxnet:
        # As a depthwise convolution, into which oneDNN takes the ReLU.
        block.add(Filter(affine.scale.reshape(-1, 1, 1, 1), affine.shift, 1, len(affine.scale), relu).layer())
    else:
        block.add(affine.layer())
    if not relu:
        block.add(HardSwish())
    elif not in_mxnet:
        block.add(nn.Activation("relu"))
    return block


def spatial(conv: nn.Conv2D, groups: int, variant: str, in_mxnet: bool) -> HybridBlock:
    """A 3x3 convolution behind the shuffle of so many groups."""
    own = Filter(convolution_weight(conv), np.zeros(conv.weight.shape[0]), 1, conv._kwargs["num_group"], False)
    order = np.arange(own.weight.shape[1] * own.groups).reshape(groups, -1).T.ravel()
    block, place = nn.HybridSequential(), np.argsort(order)
    if variant == "depthwise":
        block.add(_Depthwise(own, place))
        return block
    if in_mxnet:
        own = own.ungrouped(_fewer_groups(own))
    if own.groups == 1:
        own = own.reading(place)
    else:
        # A shuffle as a transposition is a little faster in MXNet, as a selection elsewhere.
        block.add(ChannelShuffle(len(order), groups) if in_mxnet else Rows(len(order), order))
    block.add(own.transposed_layer() if variant == "transposed" else own.layer())
    return block


def convolution_weight(conv: nn.Conv2D) -> np.ndarray:
    """The weight of a convolution, in float64."""
    return conv.weight.data().asnumpy().astype(np.float64)


def _fewer_groups(conv: Filter) -> int:
    """The largest number of groups that have enough inputs for MXNet."""
    inputs = conv.weight.shape[1] * conv.groups
    fitting = [groups for groups in range(1, conv.groups + 1) if conv.groups % groups == 0]
    return max(groups for groups in fitting if inputs // groups >= LANES or groups == 1)


class _Depthwise(HybridBlock):
    """A grouped 3x3 convolution as depthwise ones, a filter for every pair of input and output, and a sum of these.

    place : where the convolution has each channel of the input.
    """

    def __init__(self, conv: Filter, place: np.ndarray):
        super().__init__()
        out, inputs = conv.weight.shape[:2]
        outputs = out // conv.groups
        group, member = place // inputs, place % inputs
        total = np.zeros((out, outputs, len(place), 1, 1))
        with self.name_scope():
            self.filters = nn.HybridSequential()
            for number in range(outputs):
                made = group * outputs + number
                total[made, number, np.arange(len(place))] = 1
                self.filters.add(
                    Filter(conv.weight[made, member][:, None], np.zeros(len(place)), 1, len(place), False).layer()
                )
            self.sum = Filter(total.reshape(out, -1, 1, 1), np.zeros(out), 1, 1, False).layer()

    def hybrid_forward(self, F, x):
        return self.sum(F.concat(*(one(x) for one in self.filters._children.values()), dim=1))


class Update(HybridBlock):
    """What a condensed reactivation adds to the old features: (N, growth, H, W) -> (N, channels, H, W)."""

    def __init__(self, update: CondensedReactivation, relu: bool, variant: str, in_mxnet: bool):
        super().__init__()
        weight = _dense_weight(update)
        with self.name_scope():
            self.activate = activation(Affine.of_layer(update.bn), relu, in_mxnet)
            self.single, self.place = None, None
            if variant == "gathered":
                single, weight, place = _by_readers(update.table.data().asnumpy(), weight)
                self.single = nn.HybridSequential()
                self.single.add(Rows(weight.shape[1], _interleaved(weight.shape[1], single.groups)), single.layer())
                self.place = Rows(len(single.weight) + len(weight), place)
            self.shared = Filter(weight, np.zeros(len(weight)), 1, 1, False).layer()

    def hybrid_forward(self, F, x):
        x = self.activate(x)
        rows = plain_layout(F, self.shared(x))
        return rows if self.place is None else self.place(concat_channels(F, self.single(x), rows))


def _dense_weight(update: CondensedReactivation) -> np.ndarray:
    """Weight (channels, growth, 1, 1), mostly zeros, of a reactivation as one convolution."""
    table, rows = update.table.data().asnumpy(), convolution_weight(update.conv)
    groups, channels = table.shape
    weight = np.zeros((channels, rows.shape[1] * groups, 1, 1))
    for group, positions in enumerate(table):
        kept = positions < len(rows)
        weight[kept, group::groups] = rows[positions[kept]]
    return weight


def _by_readers(table: np.ndarray, weight: np.ndarray) -> Tuple[Filter, np.ndarray, np.ndarray]:
    """The rows of a reactivation's dense weight, apart: of one group, and of several.

    Returns the convolution in groups of what a single group updates; the dense weight of what several do, and at its
    end a row of zeros for what none does; and the place of every feature among the outputs of the two.
    """
    groups, channels = table.shape
    updates = np.stack([np.any(weight[:, group::groups], axis=(1, 2, 3)) for group in range(groups)])
    once = updates.sum(axis=0) == 1
    by_group = [np.nonzero(updates[group] & once)[0] for group in range(groups)]
    most = max(1, *(len(features) for features in by_group))
    rows, place = np.zeros((groups, most, weight.shape[1] // groups, 1, 1)), np.zeros(channels, int)
    for group, features in enumerate(by_group):
        rows[group, : len(features)] = weight[features, group::groups]
        place[features] = group * most + np.arange(len(features))
    several = np.nonzero(updates.sum(axis=0) > 1)[0]
    place[several] = groups * most + np.arange(len(several))
    place[~updates.any(axis=0)] = groups * most + len(several)
    single = Filter(rows.reshape(groups * most, *rows.shape[2:]), np.zeros(groups * most), 1, groups, False)
    return single, np.concatenate([weight[several], np.zeros((1, *weight.shape[1:]))]), place


def _interleaved(channels: int, groups: int) -> np.ndarray:
    """The channels of every group, of which group g has g, g + groups, g + 2 groups, ..."""
    return np.arange(channels).reshape(-1, groups).T.ravel()
