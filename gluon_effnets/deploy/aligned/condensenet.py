"""CondenseNets as they run fastest on a CPU: rows gathered, few and wide groups, BN folded in."""

from __future__ import annotations

from typing import Iterator, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ...models.condense import condense
from ...models.condensenet import CondenseNet
from ...nn import CondensedReactivation, DenseLayer, HardSwish, concat_channels, plain_layout, select_channels
from ..graph.batch_norm import Affine
from ..graph.inference import inference_copy
from .filters import Filter

__all__ = ["condensenet_blocks"]

# A 3x3 convolution with fewer inputs in a group takes up to five times as long (measured: docs/condensenet.md).
LANES = 16


def condensenet_blocks(net: CondenseNet) -> Iterator[HybridBlock]:
    """The blocks of `aligned(net)`. Raises ValueError for unfinished pruning."""
    if not net.condensed:
        net = condense(net)
    *stages, head = net.features._children.values()
    for stage in stages:
        for block in stage._children.values():
            yield _Layer(block) if isinstance(block, DenseLayer) else inference_copy(block)
    yield inference_copy(head)
    yield inference_copy(net.output)


class _Rows(HybridBlock):
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


class _Layer(HybridBlock):
    """A condensed `DenseLayer`."""

    def __init__(self, layer: DenseLayer):
        super().__init__()
        reduce, conv = layer.reduce, layer.conv
        relu = not isinstance(layer.act, HardSwish)  # ReLU goes into the convolutions
        index = reduce.index.data().asnumpy()
        used, first, position = np.unique(index, return_index=True, return_inverse=True)
        scale, shift = Affine.of_layer(reduce.bn)
        channels, groups = reduce.conv.weight.shape[0], reduce.conv._kwargs["num_group"]
        order = np.arange(channels).reshape(-1, groups).T.ravel()  # the channels as they stand before the shuffle
        norm = Affine.of_layer(layer.bn)
        spatial = Filter(_weight(conv), np.zeros(len(conv.weight.data())), 1, conv._kwargs["num_group"], False)
        fewer = max(divisor for divisor in _divisors(spatial.groups) if channels // divisor >= LANES or divisor == 1)
        spatial = spatial.ungrouped(fewer)
        self._shuffled = (groups, channels // groups) if fewer > 1 else None
        if not self._shuffled:
            spatial = spatial.reading(order)
        with self.name_scope():
            self.used = _Rows(reduce.in_channels, used)
            self.scale = _channelwise(scale[first], shift[first], relu)
            self.gather = _Rows(len(used), position)
            self.act = None if relu else HardSwish()
            unshuffled = Affine(norm.scale[order], norm.shift[order])
            self.reduce = Filter(*unshuffled.folded(_weight(reduce.conv)), 1, groups, relu).layer()
            self.conv = spatial.layer()
            self.se = inference_copy(layer.se) if layer.se is not None else None
            self.scale_new = self.update = None
            if layer.update is not None:
                self.scale_new = _channelwise(*Affine.of_layer(layer.update.bn), relu)
                self.update = Filter(*_dense(layer.update), 1, 1, False).layer()

    def hybrid_forward(self, F, x):
        y = self._activated(self.reduce(self.gather(self._activated(self.scale(self.used(x))))))
        if self._shuffled:
            y = F.reshape_like(F.swapaxes(F.reshape(y, (0, *self._shuffled, -1)), 1, 2), y)
        new = plain_layout(F, self.conv(y))
        if self.se is not None:
            new = self.se(new)
        if self.update is not None:
            x = x + plain_layout(F, self.update(self._activated(self.scale_new(new))))
        return concat_channels(F, x, new)

    def _activated(self, x):
        return x if self.act is None else self.act(x)


def _divisors(number: int) -> Tuple[int, ...]:
    return tuple(divisor for divisor in range(1, number + 1) if number % divisor == 0)


def _weight(conv: nn.Conv2D) -> np.ndarray:
    return conv.weight.data().asnumpy().astype(np.float64)


def _channelwise(scale: np.ndarray, shift: np.ndarray, relu: bool) -> HybridBlock:
    """BN as a depthwise convolution, into which oneDNN takes the ReLU."""
    return Filter(scale.reshape(-1, 1, 1, 1), shift, 1, len(scale), relu).layer()


def _dense(update: CondensedReactivation) -> Tuple[np.ndarray, np.ndarray]:
    """Weight (channels, in_channels, 1, 1), mostly zeros, and bias of a reactivation as one convolution."""
    table, rows = update.table.data().asnumpy(), _weight(update.conv)
    groups, channels = table.shape
    weight = np.zeros((channels, rows.shape[1] * groups, 1, 1))
    for group, positions in enumerate(table):
        kept = positions < len(rows)
        weight[kept, group::groups] = rows[positions[kept]]
    return weight, np.zeros(channels)
