"""DenseLayer: the layer of CondenseNet and CondenseNetV2, in training and in inference form."""

from __future__ import annotations

from typing import Optional

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .activations import make_activation
from .channels import check_divisors, concat_channels
from .compiled import norm_act
from .conv import Norm
from .layout import plain_layout
from .learned import Grouping, learned_group_conv, reactivation
from .se import SqueezeExcite
from .shortcut import add_shortcut

__all__ = ["DenseLayer"]

BOTTLENECK = 4


class DenseLayer(HybridBlock):
    """Learned group convolution -> BN -> activation -> 3x3 in groups [-> SE]; joined to its input.

    (N, in_channels, H, W) -> (N, in_channels + growth, H, W), old features first. With `update` the new features
    reactivate the old ones, which are their sum with a `SparseFeatureReactivation` from then on (CondenseNetV2);
    without it the layer is CondenseNet's.

    Args:
        in_channels: Channels of the input.
        growth: Number of new features; the learned convolution gives 4 times as many.
        learned: Groups and factor of the learned convolution.
        groups: Of the 3x3 convolution.
        update: Groups and factor of the reactivation; None: without it.
        act: Activation of all convolutions.
        se: With squeeze-and-excitation of the new features, not reduced, without biases.
        dropout: Probability within the learned convolution, before its weights.
        condensed: The inference form of learned convolution and reactivation.
        norm: How the BN layers are made.

    Raises:
        ValueError: For channels that groups or factors do not divide.

    Source: CondenseNet, arXiv 1711.09224, section 3; CondenseNetV2, arXiv 2104.04382, section 3.3.
    """

    def __init__(
        self,
        in_channels: int,
        growth: int,
        *,
        learned: Grouping,
        groups: int,
        update: Optional[Grouping] = None,
        act: str = "relu",
        se: bool = False,
        dropout: float = 0.0,
        condensed: bool = False,
        norm: Norm = Norm(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        hidden = BOTTLENECK * growth
        check_divisors("inputs of a 3x3 convolution", hidden, groups)
        check_divisors("new features", growth, groups)
        drops = {} if condensed else {"dropout": dropout}
        with self.name_scope():
            self.reduce = learned_group_conv(in_channels, hidden, learned, condensed, act=act, norm=norm, **drops)
            self.bn = norm(hidden)
            self.act = make_activation(act)
            self.conv = nn.Conv2D(growth, 3, padding=1, groups=groups, use_bias=False, in_channels=hidden)
            self.se = SqueezeExcite(growth, growth, "relu", "sigmoid", use_bias=False) if se else None
            self.update = None
            if update:
                self.update = reactivation(growth, in_channels, update, condensed, act=act, norm=norm)

    def hybrid_forward(self, F, x):
        # Few channels per group do not fill oneDNN's blocks (as in ConvBN).
        new = plain_layout(F, self.conv(norm_act(F, self.bn, self.act, self.reduce(x))))
        if self.se is not None:
            new = self.se(new)
        if self.update is not None:
            x = add_shortcut(F, self.update(new), plain_layout(F, x))
        return concat_channels(F, x, new)
