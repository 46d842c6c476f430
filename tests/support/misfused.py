"""A network whose fused graph MXNet 1.9.1 cannot run: the second term of a sum is two convolutions of other shapes."""

from __future__ import annotations

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from gluon_effnets.models import ClassificationNet
from gluon_effnets.nn import ConvBN

__all__ = ["Misfused"]


class _Block(HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.conv = ConvBN(8, 8, 3, act="relu")
            self.proj = nn.HybridSequential()
            self.proj.add(ConvBN(8, 16, 3, act="relu"), ConvBN(16, 8, 3))

    def hybrid_forward(self, F, x):
        return self.conv(x) + self.proj(x)


class Misfused(ClassificationNet):
    """An initialized network for colour images, with three classes."""

    def __init__(self):
        super().__init__(classes=3)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(ConvBN(3, 8, 3, act="relu"), _Block(), nn.GlobalAvgPool2D(), nn.Flatten())
            self.num_features, self.stage_info = 8, []
            self._make_output()
        mx.random.seed(0)
        self.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
