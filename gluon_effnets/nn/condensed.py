"""The inference forms of learned group convolution and sparse feature reactivation: index, group convolution, sum."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .activations import make_activation
from .channels import ChannelShuffle, check_divisors, concat_channels, select_channels
from .conv import Norm

__all__ = ["CondensedConv", "CondensedLinear", "CondensedReactivation"]


class CondensedConv(HybridBlock):
    """Learned group convolution at inference: selects channels -> BN -> activation -> 1x1 in groups -> shuffle.

    (N, in_channels, H, W) -> (N, channels, H, W). `index`, a Parameter (in_channels / factor * groups,), says which
    input stands at every place; one may stand at several places, or at none. The shuffle restores the order that the
    training form's interleaved groups have.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        groups: Of the convolution (G).
        factor: Condensation factor (C): every group reads in_channels / C inputs.
        act: Activation behind BN.
        norm: How the BN layer is made.

    Source: CondenseNet, arXiv 1711.09224, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        groups: int,
        factor: int,
        act: str = "relu",
        norm: Norm = Norm(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_divisors("inputs", in_channels, groups, factor)
        check_divisors("outputs", channels, groups)
        self.in_channels = in_channels
        selected = in_channels // factor * groups
        with self.name_scope():
            self.index = _index(self, "index", (selected,))
            self.bn = norm(selected)
            self.act = make_activation(act)
            self.conv = nn.Conv2D(channels, 1, groups=groups, use_bias=False, in_channels=selected)
            self.shuffle = ChannelShuffle(channels, groups)

    def cast(self, dtype):
        super().cast(dtype)
        self.index.cast("int32")

    def hybrid_forward(self, F, x, index):
        x = select_channels(F, x, index, self.in_channels)
        return self.shuffle(self.conv(self.act(self.bn(x))))


class CondensedReactivation(HybridBlock):
    """Sparse feature reactivation at inference: BN -> activation -> shuffle -> 1x1 in groups -> sum for every output.

    (N, in_channels, H, W) -> (N, channels, H, W). `table`, a Parameter (groups, channels), says which channel of the
    convolution each group adds to every output; the number behind the last one, channels / factor * groups, means none.
    (The authors' code multiplies by a channels x channels matrix of zeros and ones here, which costs more than the rest
    of the network.)

    Args:
        in_channels: Channels of the new features.
        channels: Channels of the old features, which the result is added to.
        groups: Of the convolution (G).
        factor: Sparsity factor (S): every group updates channels / S outputs.
        act: Activation behind BN.
        norm: How the BN layer is made.

    Source: CondenseNetV2, arXiv 2104.04382, section 3.3.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        groups: int,
        factor: int,
        act: str = "relu",
        norm: Norm = Norm(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_divisors("inputs", in_channels, groups)
        check_divisors("outputs", channels, groups, factor)
        self._groups = groups
        self._updates = updates = channels // factor * groups
        with self.name_scope():
            self.bn = norm(in_channels)
            self.act = make_activation(act)
            self.shuffle = ChannelShuffle(in_channels, in_channels // groups)
            self.conv = nn.Conv2D(updates, 1, groups=groups, use_bias=False, in_channels=in_channels)
            self.table = _index(self, "table", (groups, channels))

    def as_matrix(self) -> np.ndarray:
        """(channels, rows) with a one where a row of the group convolution is added to an output."""
        table, rows = self.table.data().asnumpy(), self.conv.weight.shape[0]
        return (table[:, :, None] == np.arange(rows)).sum(axis=0).astype(np.float32)

    def cast(self, dtype):
        super().cast(dtype)
        self.table.cast("int32")

    def hybrid_forward(self, F, x, table):
        z = self.conv(self.shuffle(self.act(self.bn(x))))
        # The row of zeros that "none" points to.
        z = concat_channels(F, z, F.zeros_like(F.slice_axis(z, axis=1, begin=0, end=1)))
        rows = F.split(table, num_outputs=self._groups, axis=0, squeeze_axis=True)
        return F.add_n(*[select_channels(F, z, row, self._updates + 1) for row in rows])


class CondensedLinear(HybridBlock):
    """Classifier of half of the features, as CondenseNet's authors convert it: (N, in_units) -> (N, units).

    `index`, a Parameter (in_units // 2,), names the features. Nothing is masked in training; the features with the
    largest weights are chosen at the conversion, which changes the logits.

    Args:
        units: Number of classes.
        in_units: Number of features, of which every second is read.
    """

    def __init__(self, units: int, in_units: int, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.index = _index(self, "index", (in_units // 2,))
            self.linear = nn.Dense(units, in_units=in_units // 2)

    @property
    def weight(self):
        """The weight of the classifier, (units, in_units // 2)."""
        return self.linear.weight

    @property
    def bias(self):
        """The bias of the classifier, (units,)."""
        return self.linear.bias

    def cast(self, dtype):
        super().cast(dtype)
        self.index.cast("int32")

    def hybrid_forward(self, F, x, index):
        return self.linear(F.take(x, index, axis=1))


def _index(block: HybridBlock, name: str, shape) -> mx.gluon.Parameter:
    return block.params.get(name, shape=shape, dtype="int32", init=mx.init.Zero(), grad_req="null")
