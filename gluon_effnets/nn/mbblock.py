"""MBBlock, the inverted residual block: expand, depthwise, squeeze-and-excite, project."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from mxnet.gluon.block import HybridBlock

from .conv import ConvBN, Norm
from .dropout import Dropout
from .se import SqueezeExcite, conv_bn_se
from .shortcut import add_shortcut

__all__ = ["BlockStyle", "MBBlock"]


class BlockStyle(NamedTuple):
    """What all blocks of one network share.

    Attributes:
        norm: How their BN layers are made.
        padding: Of their convolutions, see `ConvBN`.
        se_act: Activation inside squeeze-and-excitation; None: the block's own.
        se_gate: Activation that squeeze-and-excitation ends with.
    """

    norm: Norm = Norm()
    padding: str = "symmetric"
    se_act: str = "relu"  # inside squeeze-and-excitation; None: the block's own activation
    se_gate: str = "hard_sigmoid"

    def conv_bn(self, *args: Any, **kwargs: Any) -> ConvBN:
        """Make a ConvBN of this style; the arguments are those of `ConvBN` but `norm` and `padding`."""
        return ConvBN(*args, norm=self.norm, padding=self.padding, **kwargs)

    def squeeze_excite(self, channels: int, reduced: Optional[int], act: str) -> Optional[SqueezeExcite]:
        """Make squeeze-and-excitation of this style, none without a reduced width; `act`: of the block around it."""
        return SqueezeExcite(channels, reduced, self.se_act or act, self.se_gate) if reduced else None


class MBBlock(HybridBlock):
    """Inverted residual block: 1x1 expand -> k x k depthwise -> [SE] -> 1x1 project [+ x], BN behind every convolution.

    (N, in_channels, H, W) -> (N, channels, H / stride, W / stride). The identity is added where the shapes agree
    (stride 1, equal channels).

    Args:
        in_channels: Channels of the input.
        hidden: Channels of the depthwise convolution.
        channels: Channels of the output.
        kernel: Side of the depthwise kernel.
        stride: Of the depthwise convolution.
        act: Activation of expansion and depthwise convolution.
        se: Reduced width of squeeze-and-excitation; None: without it.
        expand: Whether there is an expansion; without it the depthwise convolution reads the input itself, and `hidden`
            must be a multiple of `in_channels`.
        residual: False removes the shortcut.
        drop_connect: Probability, per sample, of dropping the branch before the addition.
        style: What all blocks of the network share.

    Raises:
        ValueError: If `hidden` is no multiple of `in_channels` without expansion.

    Source: MobileNetV2, arXiv 1801.04381, and MobileNetV3, arXiv 1905.02244.

    Example:
        >>> MBBlock(40, 120, 40, kernel=5, act="hard_swish", se=32)
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        act: str = "relu",
        se: Optional[int] = None,
        expand: bool = True,
        residual: bool = True,
        drop_connect: float = 0.0,
        style: BlockStyle = BlockStyle(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not expand and hidden % in_channels:
            raise ValueError(f"without expansion hidden={hidden} must be a multiple of in_channels={in_channels}")
        self.has_residual = residual and stride == 1 and in_channels == channels
        with self.name_scope():
            width = hidden if expand else in_channels
            self.expand = style.conv_bn(in_channels, hidden, act=act) if expand else None
            self.depthwise = style.conv_bn(width, hidden, kernel, stride=stride, groups=width, act=act)
            self.se = style.squeeze_excite(hidden, se, act)
            self.project = style.conv_bn(hidden, channels)
            drops = self.has_residual and drop_connect > 0
            self.drop = Dropout(drop_connect, axes=(1, 2, 3)) if drops else None

    def hybrid_forward(self, F, x):
        return self.tapped(F, x)[1]

    def tapped(self, F, x):
        """The map that the depthwise convolution reads, (N, hidden, H, W), and the output of the block."""
        hidden = self.expand(x) if self.expand is not None else x
        y = self.project(conv_bn_se(F, self.depthwise, self.se, hidden))
        if self.drop is not None:
            y = self.drop(y)
        return hidden, add_shortcut(F, y, x) if self.has_residual else y
