"""ResidualUnit, the unit of ResNet and ResNeXt: a chain of convolutions beside a shortcut, ReLU behind the sum."""

from __future__ import annotations

import math
from typing import Sequence

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .dropout import Dropout
from .mbblock import BlockStyle
from .sandglass import ConvChain, Unit
from .shortcut import add_shortcut

__all__ = ["ResidualUnit"]


class ResidualUnit(HybridBlock):
    """Unit of ResNet and ResNeXt: ReLU(units(x) + shortcut(x)).

    (N, in_channels, H, W) -> (N, channels of the last unit, H / strides, W / strides). Where the shapes differ the
    shortcut is a 1x1 convolution with the strides of all units, and BN.

    Args:
        in_channels: Channels of the input.
        units: Of the branch, see `Unit`.
        drop_connect: Probability, per sample, of dropping the units where the shortcut is the identity.
        style: What all blocks of the network share.

    Source: ResNet, arXiv 1512.03385, option B.
    """

    def __init__(
        self,
        in_channels: int,
        units: Sequence[Unit],
        *,
        drop_connect: float = 0.0,
        style: BlockStyle = BlockStyle(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        channels, stride = units[-1].channels, math.prod(unit.stride for unit in units)
        same = stride == 1 and in_channels == channels
        with self.name_scope():
            self.chain = ConvChain(in_channels, units, residual=False, style=style)
            self.proj = None
            if not same:
                self.proj = style.conv_bn(in_channels, channels, stride=stride)
            self.drop = Dropout(drop_connect, axes=(1, 2, 3)) if same and drop_connect > 0 else None
            self.act = nn.Activation("relu")

    def hybrid_forward(self, F, x):
        y = self.chain(x)
        if self.drop is not None:
            y = self.drop(y)
        return self.act(add_shortcut(F, y, x if self.proj is None else self.proj(x)))
