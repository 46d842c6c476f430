"""Filter: a convolution with its BN folded in, whose channels can be moved, and the layer that it becomes."""

from __future__ import annotations

from typing import NamedTuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ...nn import ConvBN
from ..graph.batch_norm import Affine

__all__ = ["EMPTY", "Filter", "Slots", "place"]

EMPTY = -1
Slots = np.ndarray  # which channel stands in each place; EMPTY: zeros


def place(array: np.ndarray, slots: Slots, axis: int = 1) -> np.ndarray:
    """Bring the channels of an axis to their slots, zeros into the empty ones."""
    slots = np.asarray(slots)
    placed = np.take(array, np.maximum(slots, 0), axis)
    empty = [slice(None)] * array.ndim
    empty[axis] = slots == EMPTY
    placed[tuple(empty)] = 0
    return placed


class Filter(NamedTuple):
    """weight (out, in / groups, k, k) and bias (out,), in float64."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int
    groups: int
    relu: bool

    @classmethod
    def of(cls, unit: ConvBN) -> Filter:
        """That of a unit for inference: BN with its running statistics; `relu` if the unit has an activation."""
        weight, bias = Affine.of_layer(unit.bn).folded(unit.conv.weight.data().asnumpy())
        stride, groups = unit.conv._kwargs["stride"][0], unit.conv._kwargs["num_group"]
        return cls(weight, bias, stride, groups, unit.act is not None)

    def reading(self, slots: Slots) -> Filter:
        """The filter for an input with its channels in slots (in each group, if there are groups)."""
        return self._replace(weight=place(self.weight, slots))

    def writing(self, slots: Slots) -> Filter:
        """The filter that writes its channels into slots."""
        return self._replace(weight=place(self.weight, slots, 0), bias=place(self.bias, slots, 0))

    def channelwise(self, slots: Slots) -> Filter:
        """A depthwise filter for an input with its channels in slots, which its output has, too."""
        return self.writing(slots)._replace(groups=len(slots))

    def ungrouped(self, groups: int = 1) -> Filter:
        """The same convolution over all channels, or in fewer groups, with zeros between those that it had."""
        out, per_group = self.weight.shape[:2]
        joined, step = self.groups // groups, out // self.groups
        weight = np.zeros((out, per_group * joined, *self.weight.shape[2:]))
        for group in range(self.groups):
            rows, column = slice(group * step, (group + 1) * step), group % joined * per_group
            weight[rows, column : column + per_group] = self.weight[rows]
        return self._replace(weight=weight, groups=groups)

    def layer(self) -> nn.HybridSequential:
        """Convolution with bias [-> ReLU], initialized on the CPU."""
        out, per_group, kernel, _ = self.weight.shape
        channels = {"groups": self.groups, "in_channels": per_group * self.groups}
        return self._filled(nn.Conv2D(out, kernel, self.stride, kernel // 2, **channels), self.weight)

    def transposed_layer(self) -> nn.HybridSequential:
        """The same layer as a transposed convolution, for filters without stride."""
        assert self.stride == 1, "a transposed convolution would enlarge the map"
        out, per_group, kernel, _ = self.weight.shape
        channels = {"groups": self.groups, "in_channels": per_group * self.groups}
        by_input = self.weight.reshape(self.groups, -1, per_group, kernel, kernel).swapaxes(1, 2)[..., ::-1, ::-1]
        conv = nn.Conv2DTranspose(out, kernel, 1, kernel // 2, **channels)
        return self._filled(conv, by_input.reshape(-1, out // self.groups, kernel, kernel))

    def _filled(self, conv: HybridBlock, weight: np.ndarray) -> nn.HybridSequential:
        block = nn.HybridSequential()
        conv.initialize()
        conv.weight.set_data(mx.nd.array(weight))
        conv.bias.set_data(mx.nd.array(self.bias))
        block.add(conv)
        if self.relu:
            block.add(nn.Activation("relu"))
        return block
