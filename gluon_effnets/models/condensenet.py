"""CondenseNet (Huang et al., arXiv 1711.09224), in the definition of the authors' code.

=========================  ===============  ===============  ==========  =====================
network                    layers           growth           G (1x1) = C  input
=========================  ===============  ===============  ==========  =====================
condensenet_74_c4, _c8     4-6-8-10-8       8-16-32-64-128   4, 8         224 x 224
cifar_condensenet_<6n+2>   n-n-n            8-16-32          4            32 x 32
cifar_condensenet_182      30-30-30         12-24-48         4            32 x 32
=========================  ===============  ===============  ==========  =====================

A plain 3x3 convolution, twice as wide as the first growth, then dense blocks of `DenseLayer`s with 2x2 average pooling
between them (no convolution there), BN, ReLU, global average, classifier. Every layer reads all features before it.

`condensed=True` is the network at inference: what `gluon_effnets.models.condense` makes of a trained and completely
pruned one. The authors also drop half of the classifier's inputs when they convert, without having trained for it:
`condensed_classifier=True`. The parameters and costs that they publish are with that for ImageNet, without for CIFAR.
"""

from __future__ import annotations

import math
from typing import Any, Dict, NamedTuple, Optional, Tuple

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..nn import CondensedLinear, DenseLayer, Grouping, Norm, SqueezeExcite, make_activation
from ..nn.channels import check_positive
from .base import StageInfo
from .info import Deployment
from .normalized import NormalizedNet
from .registry import register_model

__all__ = ["CondenseNet", "DenseBlock", "Plan", "condensenet"]

PAPER = "CondenseNet: An Efficient DenseNet using Learned Group Convolutions, arXiv 1711.09224"


class DenseBlock(NamedTuple):
    """Layers with the same growth at one resolution."""

    layers: int
    growth: int
    act: str = "relu"
    se: bool = False


class Plan(NamedTuple):
    """The numbers of a CondenseNet.

    learned : groups and factor of the learned convolutions. groups : of the 3x3 convolutions.
    update : groups and factor of the reactivations; None: CondenseNet, which has none.
    last_se : reduction of a squeeze-and-excitation behind the global pooling; None: without it.
    head_hidden : width of a dense layer with h-swish before the classifier; None: without it.
    """

    blocks: Tuple[DenseBlock, ...]
    learned: Grouping
    groups: int
    update: Optional[Grouping] = None
    last_se: Optional[int] = None
    head_hidden: Optional[int] = None


@mx.init.register
class CondenseNetNormal(mx.init.Initializer):
    """Convolutions N(0, 2 / (k * k * outputs)) whatever their groups, dense layers U(-b, b), b = 1 / sqrt(inputs)."""

    def _init_weight(self, name, arr):
        out, inputs, *kernel = arr.shape
        if kernel:
            arr[:] = mx.nd.random.normal(0, math.sqrt(2 / (math.prod(kernel) * out)), arr.shape)
        else:
            bound = 1 / math.sqrt(inputs)
            arr[:] = mx.nd.random.uniform(-bound, bound, arr.shape)


class CondenseNet(NormalizedNet):
    """CondenseNet and CondenseNetV2: (N, in_channels, H, W) -> (N, classes).

    Args:
        plan: The numbers of the network.
        condensed: The inference form, whose weights come from `models.condense` or from an official converted
            checkpoint.
        condensed_classifier: The classifier reads half of the features, as in the authors' converted CondenseNet.
        dropout: Probability within every learned convolution, before its weights.
        classes, in_channels, options: Those of `NormalizedNet`.

    Raises ValueError for channels that the groups and factors do not divide, for numbers in the plan that are not at
    least 1, or a condensed classifier alone.
    """

    def __init__(
        self,
        plan: Plan,
        classes: int = 1000,
        in_channels: int = 3,
        *,
        condensed: bool = False,
        condensed_classifier: bool = False,
        dropout: float = 0.0,
        **options: Any,
    ):
        super().__init__(classes, in_channels, **options)
        check_positive("last_se", plan.last_se)
        check_positive("head_hidden", plan.head_hidden)
        if condensed_classifier and not condensed:
            raise ValueError("the classifier is condensed at the conversion only: condensed_classifier needs condensed")
        self.plan, self.condensed, self.condensed_classifier = plan, condensed, condensed_classifier
        width = 2 * plan.blocks[0].growth
        self.stage_info, stride = [], self.stem_stride
        with self.name_scope():
            self.features = nn.HybridSequential()
            for number, block in enumerate(plan.blocks):
                stage = nn.HybridSequential()
                if number == 0:
                    stage.add(nn.Conv2D(width, 3, stride, 1, use_bias=False, in_channels=in_channels))
                else:
                    stage.add(nn.AvgPool2D(2, 2))
                    stride *= 2
                for _ in range(block.layers):
                    stage.add(self._layer(block, width, dropout))
                    width += block.growth
                self.features.add(stage)
                self.stage_info.append(StageInfo(width, stride))
            self.features.add(_head(plan, width, self.norm))
            self.num_features = plan.head_hidden or width
            self._make_output()

    def _make_output(self) -> None:
        if self.condensed_classifier:
            self.output = CondensedLinear(self.num_classes, self.num_features, prefix="output_")
        else:
            super()._make_output()

    def default_initializer(self) -> mx.init.Initializer:
        return CondenseNetNormal()

    def definition(self) -> Dict[str, Any]:
        own = {"condensed": self.condensed, "condensed_classifier": isinstance(self.output, CondensedLinear)}
        return {**super().definition(), **own}

    def _layer(self, block: DenseBlock, width: int, dropout: float) -> DenseLayer:
        return DenseLayer(
            width,
            block.growth,
            learned=self.plan.learned,
            groups=self.plan.groups,
            update=self.plan.update,
            act=block.act,
            se=block.se,
            dropout=dropout,
            condensed=self.condensed,
            norm=self.norm,
        )


def _head(plan: Plan, width: int, norm: Norm) -> HybridBlock:
    head = nn.HybridSequential()
    head.add(norm(width), nn.Activation("relu"), nn.GlobalAvgPool2D())
    if plan.last_se:
        head.add(SqueezeExcite(width, width // plan.last_se, "relu", "sigmoid", use_bias=False))
    head.add(nn.Flatten())
    if plan.head_hidden:
        head.add(nn.Dense(plan.head_hidden, in_units=width), make_activation("hard_swish"))
    return head


def condensenet(layers, growth, groups: int = 4, factor: Optional[int] = None, **options) -> CondenseNet:
    """Build a CondenseNet of `layers` and `growth` per block; `factor` is the condensation factor C (None: `groups`).

    The other options are those of `CondenseNet`. Raises ValueError if the lists are not of one length.
    """
    if len(layers) != len(growth):
        raise ValueError(f"{len(layers)} blocks with {len(growth)} growth rates")
    blocks = tuple(DenseBlock(*pair) for pair in zip(layers, growth))
    return CondenseNet(Plan(blocks, Grouping(groups, groups if factor is None else factor), groups), **options)


@register_model(family="condensenet", paper=PAPER, aliases=("condensenet_74",))
def condensenet_74_c4(**options) -> CondenseNet:
    """CondenseNet-74, G = C = 4: 4.8 M parameters and 516.6 M MAdds when condensed (published 4.8 M, 529 M)."""
    return condensenet((4, 6, 8, 10, 8), (8, 16, 32, 64, 128), 4, **options)


@register_model(family="condensenet", paper=PAPER, representative=(Deployment(), Deployment(aligned=True)))
def condensenet_74_c8(**options) -> CondenseNet:
    """CondenseNet-74, G = C = 8: 2.9 M parameters and 261.5 M MAdds when condensed (published 2.9 M, 274 M)."""
    return condensenet((4, 6, 8, 10, 8), (8, 16, 32, 64, 128), 8, **options)


def _register_cifar(layers: int, growth: Tuple[int, int, int] = (8, 16, 32)) -> None:
    depth = 6 * layers + 2

    def build(**options) -> CondenseNet:
        return condensenet((layers,) * 3, growth, 4, **{"stem_stride": 1, **options})

    build.__name__ = build.__qualname__ = f"cifar_condensenet_{depth}"
    build.__doc__ = f"CondenseNet-{depth} for CIFAR: {layers} layers a block, growth {'-'.join(map(str, growth))}."
    globals()[build.__name__] = register_model(family="condensenet", paper=PAPER, input_size=32, classes=10)(build)
    __all__.append(build.__name__)


# Networks that differ in nothing but their depth.
for _layers in (8, 12, 14, 16, 18, 20):
    _register_cifar(_layers)
_register_cifar(30, (12, 24, 48))
__all__ += ["condensenet_74_c4", "condensenet_74_c8"]


@register_model(
    family="condensenet",
    paper=PAPER,
    reconstruction="not of the paper: for tests",
    input_size=32,
    classes=10,
    hidden=True,
    small=True,
)
def condensenet_tiny(**options) -> CondenseNet:
    """Three blocks of two layers, for tests of pruning and conversion."""
    return condensenet((2, 2, 2), (8, 16, 32), 4, **{"stem_stride": 1, **options})


@register_model(
    family="condensenet",
    paper=PAPER,
    reconstruction="not of the paper: for short runs on a CPU",
    input_size=32,
    classes=10,
    hidden=True,
)
def condensenet_small(**options) -> CondenseNet:
    """Three blocks of six layers, with the condensed cost of condensenet_v2_small (2 % less)."""
    return condensenet((6, 6, 6), (8, 16, 36), 4, **{"stem_stride": 1, **options})
