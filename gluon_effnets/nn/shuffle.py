"""ShuffleUnit and ShuffleUnitV2, the blocks of ShuffleNetV1 (arXiv 1707.01083) and ShuffleNetV2 (arXiv 1807.11164)."""

from __future__ import annotations

from typing import Optional

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .channels import ChannelShuffle, check_positive, concat_channels
from .dropout import Dropout
from .learned import Grouping, reactivation
from .mbblock import BlockStyle
from .shortcut import add_shortcut

__all__ = ["SHUFFLES", "SPLITS", "ShuffleUnit", "ShuffleUnitV2"]

SHUFFLES = ("official", "paper", "none")
SPLITS = ("interleaved", "halves")


class ShuffleUnit(HybridBlock):
    """Unit of ShuffleNetV1: 1x1 in groups -> 3x3 depthwise -> shuffle -> 1x1 in groups [-> SE] + x -> ReLU.

    (N, in_channels, H, W) -> (N, channels, H / stride, W / stride); the bottleneck has channels / 4. BN stands behind
    every convolution, ReLU behind the first. With a stride the branch has channels - in_channels, and is joined to the
    input's 3x3 average pool, which comes first.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        groups: Of the 1x1 convolutions.
        first_groups: Of the first one if they differ (1 in the first unit of the network).
        stride: 1 or 2.
        shuffle: 'official' as the authors' code has it, behind the depthwise convolution, reshape to (C / g, g) and
            transpose; 'paper' as the text has it, before the depthwise convolution, (g, C / g) and transpose, which is
            the inverse; 'none'. Weights of one do not serve another.
        se: Reduced width of squeeze-and-excitation; None: without it.
        drop_connect: Probability, per sample, of dropping the branch.
        style: What all blocks of the network share.

    Raises:
        ValueError: For another `shuffle`, for channels that 4 or the groups do not divide, and for other widths without
            a stride.

    Source: ShuffleNet, arXiv 1707.01083, figure 2 (b, c).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        groups: int = 3,
        *,
        first_groups: Optional[int] = None,
        stride: int = 1,
        shuffle: str = "official",
        se: Optional[int] = None,
        drop_connect: float = 0.0,
        style: BlockStyle = BlockStyle(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        hidden, branch = channels // 4, channels if stride == 1 else channels - in_channels
        first_groups = groups if first_groups is None else first_groups
        check_positive("groups", groups)
        _check_unit(in_channels, channels, groups, stride, shuffle)
        self.before = shuffle == "paper"
        with self.name_scope():
            self.reduce = style.conv_bn(in_channels, hidden, groups=first_groups, act="relu")
            self.depthwise = style.conv_bn(hidden, hidden, 3, stride=stride, groups=hidden)
            # The official shuffle is the inverse of the paper's: as many groups as that has channels per group.
            parts = groups if self.before else hidden // groups
            self.shuffle = ChannelShuffle(hidden, parts) if shuffle != "none" and groups > 1 else None
            self.expand = style.conv_bn(hidden, branch, groups=groups)
            self.pool = nn.AvgPool2D(3, 2, 1) if stride == 2 else None
            self.se = style.squeeze_excite(channels, se, "relu")
            drops = stride == 1 and drop_connect > 0
            self.drop = Dropout(drop_connect, axes=(1, 2, 3)) if drops else None
            self.act = nn.Activation("relu")

    def hybrid_forward(self, F, x):
        y = self.reduce(x)
        if self.shuffle is not None and self.before:
            y = self.shuffle(y)
        y = self.depthwise(y)
        if self.shuffle is not None and not self.before:
            y = self.shuffle(y)
        y = self.expand(y)
        if self.pool is not None:
            # The pooled input is not negative: ReLU of the branch alone is that of both.
            y = concat_channels(F, self.pool(x), self.act(y))
            return self.se(y) if self.se is not None else y
        if self.se is not None:
            y = self.se(y)
        if self.drop is not None:
            y = self.drop(y)
        return self.act(add_shortcut(F, y, x))


def _check_unit(in_channels: int, channels: int, groups: int, stride: int, shuffle: str) -> None:
    if shuffle not in SHUFFLES:
        raise ValueError(f"shuffle is {shuffle!r}; choose one of {', '.join(SHUFFLES)}")
    branch = channels - in_channels if stride == 2 else channels
    if stride not in (1, 2) or branch <= 0 or (stride == 1 and in_channels != channels):
        raise ValueError(f"a ShuffleUnit with stride {stride} cannot make {channels} channels of {in_channels}")
    if channels % (4 * groups) or branch % groups:
        raise ValueError(f"{groups} groups must divide a quarter of {channels} channels and the {branch} of the branch")


class ShuffleUnitV2(HybridBlock):
    """Unit of ShuffleNetV2: half of the channels pass, the others go through 1x1 -> 3x3 depthwise -> 1x1.

    (N, in_channels, H, W) -> (N, channels, H / stride, W / stride). BN stands behind every convolution, ReLU behind the
    1x1 ones. With a stride all channels go through the branch and, instead of passing, through depthwise and 1x1. No
    sums anywhere but in `update`.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: 1 or 2.
        split: 'interleaved' as in the authors' code: channels 0, 2, 4, ... pass, 1, 3, 5, ... go through the branch;
            with a stride the passing side keeps `in_channels`. 'halves' as in torchvision: the first half passes, both
            sides have channels / 2, and the shuffle stands at the end of every unit. Weights of one do not serve the
            other.
        update: Groups and factor of a reactivation of what passes by the branch's output (CondenseNetV2, figure 5);
            only without a stride. None: without it.
        condensed: The inference form of the reactivation.
        style: What all blocks of the network share.

    Raises:
        ValueError: For another `split` or odd `channels`, and for other widths without a stride.

    Source: ShuffleNet V2, arXiv 1807.11164, figure 3 (c, d).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        split: str = "interleaved",
        update: Optional[Grouping] = None,
        condensed: bool = False,
        style: BlockStyle = BlockStyle(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; choose one of {', '.join(SPLITS)}")
        if channels % 2 or stride not in (1, 2) or (stride == 1 and in_channels != channels):
            raise ValueError(f"a ShuffleUnitV2 with stride {stride} cannot make {channels} channels of {in_channels}")
        self.half = half = channels // 2
        passing = in_channels if stride == 2 and split == "interleaved" else half
        if passing >= channels:
            raise ValueError(f"{in_channels} channels that pass leave none of {channels} for the branch")
        with self.name_scope():
            shuffle = ChannelShuffle(channels, half if split == "interleaved" else 2)
            self.first = shuffle if split == "interleaved" and stride == 1 else None
            self.last = shuffle if split == "halves" else None
            self.proj = None
            if stride == 2:
                self.proj = nn.HybridSequential()
                self.proj.add(style.conv_bn(in_channels, in_channels, 3, stride=2, groups=in_channels))
                self.proj.add(style.conv_bn(in_channels, passing, act="relu"))
            self.branch = nn.HybridSequential()
            self.branch.add(style.conv_bn(in_channels if stride == 2 else half, half, act="relu"))
            self.branch.add(style.conv_bn(half, half, 3, stride=stride, groups=half))
            self.branch.add(style.conv_bn(half, channels - passing, act="relu"))
            self.update = None
            if update and stride == 1:
                self.update = reactivation(half, half, update, condensed, norm=style.norm)

    def hybrid_forward(self, F, x):
        if self.proj is not None:
            passing, branch = self.proj(x), x
        else:
            if self.first is not None:
                x = self.first(x)
            passing = F.slice_axis(x, axis=1, begin=0, end=self.half)
            branch = F.slice_axis(x, axis=1, begin=self.half, end=None)
        branch = self.branch(branch)
        if self.update is not None:
            passing = add_shortcut(F, self.update(branch), passing)
        y = concat_channels(F, passing, branch)
        return self.last(y) if self.last is not None else y
