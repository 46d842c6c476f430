"""Squeeze-and-excitation: channel weights computed from the global average."""

from __future__ import annotations

from typing import Optional

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .activations import make_activation
from .conv import ConvBN, Norm
from .layout import plain_layout
from .variants import compiled_variants_active, training_on_cpu

__all__ = ["NormalizedSqueezeExcite", "SqueezeExcite", "conv_bn_se", "scale_channels"]


class SqueezeExcite(HybridBlock):
    """Scale channels by weights computed from their means: (N, C, H, W) -> the same shape.

    y = x * gate(W2 act(W1 mean_HW(x))).

    Called with `mean`, (N, C, 1, 1), it takes that for the means of x, which are known already.

    Args:
        channels: C.
        reduced: Width between the two layers.
        act: Activation between them.
        gate: Activation behind them.
        use_bias: Whether the layers have biases.

    Source: Squeeze-and-Excitation Networks, arXiv 1709.01507.
    """

    def __init__(
        self,
        channels: int,
        reduced: int,
        act: str = "relu",
        gate: str = "hard_sigmoid",
        use_bias: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        with self.name_scope():
            self.pool = nn.GlobalAvgPool2D()
            self.reduce = nn.Conv2D(reduced, 1, use_bias=use_bias, in_channels=channels)
            self.act = make_activation(act)
            self.expand = nn.Conv2D(channels, 1, use_bias=use_bias, in_channels=reduced)
            self.gate = make_activation(gate)

    def hybrid_forward(self, F, x, mean=None):
        x = plain_layout(F, x)
        mean = self.pool(x) if mean is None else mean
        return scale_channels(F, x, self.gate(self.expand(self.act(self.reduce(mean)))))


class NormalizedSqueezeExcite(HybridBlock):
    """Squeeze-and-excitation with BN behind both layers, which have no biases: (N, C, H, W) -> the same shape.

    y = x * h-sigmoid(BN(W2 relu(BN(W1 mean_HW(x))))).

    Args:
        channels: C.
        reduced: Width between the two layers.
        norm: How the BN layers are made.

    Source: `i2rnetv4.py` of yitu-opensource/MobileNeXt, in the bottleneck of a SandGlass.
    """

    def __init__(self, channels: int, reduced: int, norm: Norm = Norm(), **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.pool = nn.GlobalAvgPool2D()
            self.reduce = ConvBN(channels, reduced, act="relu", norm=norm)
            self.expand = ConvBN(reduced, channels, act="hard_sigmoid", norm=norm)

    def hybrid_forward(self, F, x):
        x = plain_layout(F, x)
        return scale_channels(F, x, self.expand(self.reduce(self.pool(x))))


def conv_bn_se(F, unit: ConvBN, se: Optional[SqueezeExcite], x):
    """Compute se(unit(x)), or unit(x) without `se`; compiled operators of training give the map and its means together.

    Args:
        F: `mx.nd` or `mx.sym`, as `hybrid_forward` gets it.
        unit: The convolution before.
        se: Squeeze-and-excitation of its channels, or None.
        x: Map (N, in_channels, H, W).
    """
    if se is not None and compiled_variants_active():
        return se(*unit.with_mean(F, x))
    y = unit(x)
    return y if se is None else se(y)


def scale_channels(F, x, scale):
    """(N, C, H, W) times (N, C, 1, 1)."""
    if compiled_variants_active():
        return F.effnets_scale(x, scale)
    if training_on_cpu():
        # The gradient of `broadcast_mul` takes longer than those of these two.
        return x * F.broadcast_like(scale, x)
    return F.broadcast_mul(x, scale)
