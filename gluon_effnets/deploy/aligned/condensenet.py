"""CondenseNets as they run fastest on a CPU: planned for a runtime layer by layer, BN folded in, nothing shuffled."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Tuple

import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ...models.card import usual_size
from ...models.condense import condense
from ...models.condensenet import CondenseNet
from ...nn import DenseLayer, HardSwish, concat_channels, plain_layout
from ..graph.batch_norm import Affine
from ..graph.inference import inference_copy
from .condensenet_plan import COSTS, IN_MXNET, LayerShape, Variant, cheapest
from .condensenet_steps import Limit, Rows, Update, activation, convolution_weight, spatial
from .filters import Filter

__all__ = ["condensenet_blocks"]


def condensenet_blocks(net: CondenseNet, format: str = "mxnet") -> Iterator[HybridBlock]:
    """The blocks of `aligned(net, format=format)`. Raises ValueError for unfinished pruning."""
    if not net.condensed:
        net = condense(net)
    *stages, head = net.features._children.values()
    for stage, info in zip(stages, net.stage_info):
        side = usual_size(net) // info.stride
        for block in stage._children.values():
            if isinstance(block, DenseLayer):
                yield _Layer(_Parts.of(block), planned(block, side * side, format), format)
            else:
                yield inference_copy(block)
    yield inference_copy(head)
    yield inference_copy(net.output)


def planned(layer: DenseLayer, pixels: int, format: str) -> Variant:
    """The variant of a condensed layer for maps of so many pixels."""
    if format not in COSTS:
        return IN_MXNET
    groups, spatial_groups = (conv._kwargs["num_group"] for conv in (layer.reduce.conv, layer.conv))
    growth = layer.conv.weight.shape[0]
    shape = LayerShape(layer.reduce.in_channels, growth, groups, spatial_groups, pixels, layer.update is not None)
    return cheapest(shape, COSTS[format])


class _Parts(NamedTuple):
    """A condensed layer taken apart: the channels that it selects, what it does to them, and its layers.

    selected : the channels in the order in which the groups read them.
    affine : BN of each of them.
    reduce : the 1x1 convolution of these with the BN behind it, its outputs group by group.
    """

    layer: DenseLayer
    selected: np.ndarray
    affine: Affine
    reduce: Filter

    @classmethod
    def of(cls, layer: DenseLayer) -> _Parts:
        conv, norm = layer.reduce.conv, Affine.of_layer(layer.bn)
        hidden, groups = conv.weight.shape[0], conv._kwargs["num_group"]
        place = np.arange(hidden).reshape(-1, groups).T.ravel()  # behind the shuffle
        unshuffled = Affine(norm.scale[place], norm.shift[place])
        reduce = Filter(*unshuffled.folded(convolution_weight(conv)), 1, groups, not isinstance(layer.act, HardSwish))
        return cls(layer, layer.reduce.index.data().asnumpy(), Affine.of_layer(layer.reduce.bn), reduce)

    def over_all(self, channels: int) -> _Parts:
        """The same for a map in which all channels stand once, in order: weights of zero for those not selected."""
        weight = np.zeros((len(self.reduce.weight), channels, 1, 1))
        for rows, index in zip(np.split(np.arange(len(weight)), self.reduce.groups), self._by_group):
            weight[np.ix_(rows, index)] = self.reduce.weight[rows]
        scale, shift = np.ones(channels), np.zeros(channels)
        scale[self.selected], shift[self.selected] = self.affine
        reduce = self.reduce._replace(weight=weight, groups=1)
        return self._replace(selected=np.arange(channels), affine=Affine(scale, shift), reduce=reduce)

    @property
    def _by_group(self) -> np.ndarray:
        return self.selected.reshape(self.reduce.groups, -1)


class _Layer(HybridBlock):
    """A condensed `DenseLayer` in a variant: (N, C, H, W) -> (N, C + growth, H, W)."""

    def __init__(self, parts: _Parts, variant: Variant, format: str):
        super().__init__()
        layer, channels = parts.layer, parts.layer.reduce.in_channels
        relu, groups, in_mxnet = parts.reduce.relu, parts.reduce.groups, format == "mxnet"
        if variant.product == "dense":
            parts = parts.over_all(channels)
        with self.name_scope():
            self.read, reduce = _reading(parts, channels, in_mxnet)
            self.reduce = reduce.layer()
            self.act = None if relu else HardSwish()
            self.spatial = spatial(layer.conv, groups, variant.spatial, in_mxnet)
            self.se = inference_copy(layer.se) if layer.se is not None else None
            self.update = None
            if layer.update is not None:
                self.update = Update(layer.update, relu, variant.update, in_mxnet)

    def hybrid_forward(self, F, x):
        y = self.reduce(self.read(x))
        new = plain_layout(F, self.spatial(y if self.act is None else self.act(y)))
        if self.se is not None:
            new = self.se(new)
        if self.update is not None:
            x = x + self.update(new)
        return concat_channels(F, x, new)


def _reading(parts: _Parts, channels: int, in_mxnet: bool) -> Tuple[HybridBlock, Filter]:
    """What stands before the 1x1 convolution, selection and activation, and the convolution that this leaves."""
    read, reduce, affine, index = nn.HybridSequential(), parts.reduce, parts.affine, parts.selected
    selects = len(index) != channels or np.any(index != np.arange(channels))
    if reduce.relu and not in_mxnet and Limit.fits(affine):
        limit = Limit(affine)
        read.add(*([Rows(channels, index)] if selects else []), limit)
        return read, limit.absorbed(reduce)
    if not selects:
        read.add(activation(affine, reduce.relu, in_mxnet))
        return read, reduce
    # The activation costs more than a second selection: every channel passes it once.
    used, first, position = np.unique(index, return_index=True, return_inverse=True)
    once = Affine(affine.scale[first], affine.shift[first])
    read.add(Rows(channels, used), activation(once, reduce.relu, in_mxnet), Rows(len(used), position))
    return read, reduce
