"""DS-Net (Li et al., CVPR 2021, arXiv 2103.13258): slimmable networks whose width a gate chooses for every image.

DS-MBNet, as in the authors' code (`slimmable_mbnet_v1_bn_uniform`), is MobileNetV1 with Swish, and with
squeeze-and-excitation between the depthwise and the 1x1 convolution of every unit. The widths are those of the 14
sub-networks; the largest network trains them but is not one of them:

=====================  =======  =====  ============
widths                 largest  units  first stride
=====================  =======  =====  ============
16 (stem)              24              2
32                     88       1      1
48                     168      2      2
96                     264      2      2
224, 256, ..., 640     640      6      2
736, 768, ..., 1152    1152     2      2
=====================  =======  =====  ============

The last two stages choose the same index, decided by the gate in the first unit of the fourth.

Paper and code differ, and the code is followed: 14 widths instead of 18, of which 4 neighbors are
candidates of the gate. What fails in the code works here: candidates other than the first four
(`first_candidate`), a new number of classes, forward passes in any order.
"""

from __future__ import annotations

import functools
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..nn import BlockStyle, ConvBN, Dropout, FanOutNormal, Norm, SqueezeExcite
from ..nn.slimmable import BottleneckUnit, ChannelGroupNorm, SeparableUnit
from .base import StageInfo
from .blocknet import BlockNet, BlockRow, Table
from .info import Deployment
from .normalized import NormalizedNet
from .registry import register_model
from .slimmable import Gating, SlimmableNet, Slot

__all__ = ["RATIOS", "RESNET50", "SlimmableMobileNet", "SlimmableResNet", "Stage", "ds_mobilenet_v1", "ds_resnet50"]

PAPER = "Dynamic Slimmable Network, CVPR 2021, arXiv 2103.13258"


class Stage(NamedTuple):
    """A row of the table above; the first unit has the stride.

    With more than one width the entry `choice` of a path picks it.
    """

    widths: Tuple[int, ...]
    largest: int
    units: int
    stride: int
    choice: int = 0

    @property
    def slot(self) -> Slot:
        return Slot(self.widths, self.largest, self.choice if len(self.widths) > 1 else None)


STEM = Slot((16,), 24)
STAGES = (
    Stage((32,), 88, 1, 1),
    Stage((48,), 168, 2, 2),
    Stage((96,), 264, 2, 2),
    Stage(tuple(range(224, 641, 32)), 640, 6, 2),
    Stage(tuple(range(736, 1153, 32)), 1152, 2, 2),
)
TINY_STEM = Slot((8,), 16)
TINY_STAGES = (
    Stage((16,), 24, 1, 1),
    Stage((16,), 24, 1, 2),
    Stage((24,), 32, 1, 2),
    Stage(tuple(range(24, 65, 8)), 64, 2, 2),
    Stage(tuple(range(40, 81, 8)), 80, 1, 2),
)

SPREAD_STAGES = (
    *TINY_STAGES[:3],
    Stage((8, 24, 64, 128), 128, 2, 2),
    Stage((16, 48, 96, 192), 192, 1, 2),
)


class SlimmableMobileNet(SlimmableNet, BlockNet):
    """The network of a table of separable units.

    Args:
        stem, stages: The widths, see `Stage`.
        act: Activation of all convolutions.
        se_ratio: The reduced width of squeeze-and-excitation is this share of a unit's largest input; None: without it.
        gating: The slimming heads; None: without gates.
        options: Those of `StagedNet`.
    """

    def __init__(
        self,
        stem: Slot,
        stages: Sequence[Stage],
        *args,
        act: str,
        se_ratio: Optional[float] = None,
        gating: Optional[Gating] = None,
        **options,
    ):
        slots, slot_of, rows = [stem], [0], []
        width = stem.largest
        for stage in stages:
            slots.append(stage.slot)
            for index in range(stage.units):
                stride = stage.stride if index == 0 else 1
                reduced = max(1, int(se_ratio * width + 0.5)) if se_ratio else None
                make = functools.partial(_separable, channels=stage.largest, stride=stride, act=act, reduced=reduced)
                rows.append(BlockRow(make, stage.largest, stride))
                slot_of.append(len(slots) - 1)
                width = stage.largest
        super().__init__(Table(stem.largest, tuple(rows), act, "relu", "sigmoid"), *args, **options)
        self._make_slimmable(slots, slot_of, gating)

    def default_initializer(self) -> mx.init.Initializer:
        return FanOutNormal()


def _separable(
    in_channels: int,
    *,
    channels: int,
    stride: int,
    act: str,
    reduced: Optional[int],
    style: BlockStyle,
    drop_connect: float,
) -> SeparableUnit:
    if drop_connect:
        raise ValueError("drop_connect must be 0: the units have no shortcut to fall back on")
    return SeparableUnit(
        style.conv_bn(in_channels, in_channels, 3, stride=stride, groups=in_channels, act=act),
        style.squeeze_excite(in_channels, reduced, act),
        style.conv_bn(in_channels, channels, act=act),
    )


class SlimmableResNet(SlimmableNet, NormalizedNet):
    """The network of a table of bottleneck units: 7x7 stem, max pooling, stages, global pooling.

    Args:
        stem, stages: The widths, see `Stage`; a unit's inner width is a quarter of them.
        classes, in_channels, options: Those of `NormalizedNet`. With `norm_layer=ChannelGroupNorm` the epsilon is that
            of the group normalization.
        dropout: Probability before the classifier.
        se_reduction: Squeeze-and-excitation at the beginning of every unit, reduced so many times; None: without it.
        gating: The slimming heads; None: without gates.
        stem_pool: Max pooling behind the stem; without it, and with `stem_stride=1`, for images of about 32 pixels.
    """

    def __init__(
        self,
        stem: Slot,
        stages: Sequence[Stage],
        classes: int = 1000,
        in_channels: int = 3,
        *,
        se_reduction: Optional[int] = None,
        gating: Optional[Gating] = None,
        dropout: float = 0.0,
        stem_pool: bool = True,
        **options: Any,
    ):
        super().__init__(classes, in_channels, **options)
        self.stem_pool = stem_pool
        slots = [stem, *(stage.slot for stage in stages)]
        slot_of: List[Optional[int]] = []
        self.stage_info: List[StageInfo] = []
        with self.name_scope():
            self.features = nn.HybridSequential()

            def add(block: HybridBlock, slot: Optional[int], width: int, stride: int) -> None:
                if stride > 1 or not self.stage_info:
                    self.features.add(nn.HybridSequential())
                    before = self.stage_info[-1].stride if self.stage_info else 1
                    self.stage_info.append(StageInfo(width, before * stride))
                self.features[-1].add(block)
                self.stage_info[-1] = self.stage_info[-1]._replace(channels=width)
                slot_of.append(slot)

            width = stem.largest
            conv = ConvBN(in_channels, width, 7, stride=self.stem_stride, act="relu", norm=self.norm)
            add(conv, 0, width, self.stem_stride)
            if stem_pool:
                add(nn.MaxPool2D(3, 2, 1), None, width, 2)
            for number, stage in enumerate(stages, start=1):
                for index in range(stage.units):
                    stride = stage.stride if index == 0 else 1
                    unit = _bottleneck(width, stage.largest, stride, se_reduction, self.norm)
                    add(unit, number, stage.largest, stride)
                    width = stage.largest
            head = nn.HybridSequential()
            head.add(nn.GlobalAvgPool2D(), nn.Flatten(), *([Dropout(dropout)] if dropout else ()))
            self.features.add(head)
            self.num_features = width
            self._make_output()
        self._make_slimmable(slots, slot_of, gating)

    def definition(self) -> Dict[str, Any]:
        return {**super().definition(), "stem_pool": self.stem_pool}


def _bottleneck(
    in_channels: int, channels: int, stride: int, se_reduction: Optional[int], norm: Norm
) -> BottleneckUnit:
    inner = channels // 4
    shortcut = stride > 1 or in_channels != channels
    return BottleneckUnit(
        SqueezeExcite(in_channels, in_channels // se_reduction, gate="sigmoid") if se_reduction else None,
        ConvBN(in_channels, inner, act="relu", norm=norm),
        ConvBN(inner, inner, 3, stride=stride, act="relu", norm=norm),
        ConvBN(inner, channels, norm=norm),
        ConvBN(in_channels, channels, stride=stride, norm=norm) if shortcut else None,
    )


def _gating(options: Dict[str, Any]) -> Gating:
    """Take the options of the gates out of those of the network."""
    fields = {
        "num_candidates": "num_candidates",
        "first_candidate": "first_candidate",
        "gate_heads": "heads",
        "gate_output": "output",
    }
    return Gating(**{field: options.pop(name) for name, field in fields.items() if name in options})


def _ds_mobilenet(stem: Slot, stages: Sequence[Stage], options: Dict[str, Any]) -> SlimmableMobileNet:
    gating = _gating(options)
    return SlimmableMobileNet(stem, stages, act="swish", se_ratio=0.25, gating=gating, **options)


@register_model(
    family="dsnet",
    paper=PAPER,
    aliases=("ds_mbnet", "slimmable_mbnet_v1_bn_uniform"),
    representative=(Deployment(width=0), Deployment(width=3)),
)
def ds_mobilenet_v1(**options) -> SlimmableMobileNet:
    """DS-MBNet: 14 sub-networks of 132 M to 564 M MAdds in one of 818 M, and a gate.

    Options: `num_candidates` (4), `first_candidate` (0), `gate_heads` ('shared' or 'separate'), `gate_output`
    ('one_hot' or 'ratio'), those of `StagedNet`.
    """
    return _ds_mobilenet(STEM, STAGES, options)


@register_model(family="dsnet", paper=PAPER, reconstruction="not of the paper: for tests", hidden=True, small=True)
def ds_mobilenet_tiny(**options) -> SlimmableMobileNet:
    """Six units, six sub-networks, a gate: keeps tests of training short."""
    return _ds_mobilenet(TINY_STEM, TINY_STAGES, options)


@register_model(family="dsnet", paper=PAPER, reconstruction="not of the paper: for short runs on a CPU", hidden=True)
def ds_mobilenet_spread(**options) -> SlimmableMobileNet:
    """ds_mobilenet_tiny with four widths that are far apart, for gates that have something to choose."""
    return _ds_mobilenet(TINY_STEM, SPREAD_STAGES, options)


DS_RESNET = {"norm_layer": ChannelGroupNorm, "se_reduction": 16}
RATIOS = (0.25, 0.5, 0.75, 1.0)
RESNET50 = ((256, 3, 1), (512, 4, 2), (1024, 6, 2), (2048, 3, 2))  # output width, units, stride


@register_model(
    family="dsnet",
    paper=PAPER,
    reconstruction="no code is published; ours are the groups of 16 channels, the attention at the beginning of every "
    "unit, reduced 16 times, and ResNet-50's shortcut with a norm",
)
def ds_resnet50(**options) -> SlimmableResNet:
    """DS-ResNet-50: a gate in the first unit of every stage chooses 0.25, 0.5, 0.75 or 1 of its width: 256 networks.

    Group normalization, as no BN statistics fit so many paths. Options: those of `SlimmableResNet`, and
    `num_candidates` (4), `first_candidate` (0), `gate_heads`, `gate_output`.
    """
    return _ds_resnet(Slot((64,), 64), RESNET50, options)


@register_model(family="dsnet", paper=PAPER, reconstruction="not of the paper: for tests", hidden=True)
def ds_resnet_tiny(**options) -> SlimmableResNet:
    """Four units, three gates, groups of 4 channels: keeps tests of several gates short."""
    return _ds_resnet(
        Slot((16,), 16), ((64, 1, 1), (64, 2, 2), (128, 1, 2)), {"norm_kwargs": {"group_size": 4}, **options}
    )


def _ds_resnet(stem: Slot, table: Sequence[Tuple[int, int, int]], options: Dict[str, Any]) -> SlimmableResNet:
    stages = [
        Stage(tuple(int(out * ratio) for ratio in RATIOS), out, units, stride, choice)
        for choice, (out, units, stride) in enumerate(table)
    ]
    gating = _gating(options)
    return SlimmableResNet(stem, stages, gating=gating, **{**DS_RESNET, **options})
