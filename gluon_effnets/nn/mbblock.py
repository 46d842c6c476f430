"""MBBlock, the inverted residual block: expand, depthwise, squeeze-and-excite, project."""

from __future__ import annotations

from typing import NamedTuple, Optional

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .conv import ConvBN, Norm
from .se import SqueezeExcite, conv_bn_se
from .shortcut import add_shortcut

__all__ = ["BlockStyle", "MBBlock"]


class BlockStyle(NamedTuple):
    """What all blocks of one network share."""

    norm: Norm = Norm()
    padding: str = "symmetric"
    se_act: str = "relu"  # inside squeeze-and-excitation; None: the block's own activation
    se_gate: str = "hard_sigmoid"


class MBBlock(HybridBlock):
    """1x1 expand -> BN -> act -> k x k depthwise -> BN -> act -> [SE] -> 1x1 project -> BN [+ x].

    (N, in_channels, H, W) -> (N, channels, H/stride, W/stride). The identity is added where the shapes agree
    (stride 1, equal channels) unless `residual` is False. Without `expand` the depthwise convolution reads the
    input itself; `hidden` must then be a multiple of `in_channels`.

    `drop_connect` is the probability, per sample, of dropping the branch before the addition.
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
        common = {"norm": style.norm, "padding": style.padding}
        self.has_residual = residual and stride == 1 and in_channels == channels
        with self.name_scope():
            self.expand = ConvBN(in_channels, hidden, act=act, **common) if expand else None
            groups = hidden if expand else in_channels
            self.depthwise = ConvBN(
                hidden if expand else in_channels,
                hidden,
                kernel,
                stride=stride,
                groups=groups,
                act=act,
                **common,
            )
            self.se = SqueezeExcite(hidden, se, style.se_act or act, style.se_gate) if se else None
            self.project = ConvBN(hidden, channels, **common)
            drops = self.has_residual and drop_connect > 0
            self.drop = nn.Dropout(drop_connect, axes=(1, 2, 3)) if drops else None

    def hybrid_forward(self, F, x):
        y = self.expand(x) if self.expand is not None else x
        y = self.project(conv_bn_se(F, self.depthwise, self.se, y))
        if self.drop is not None:
            y = self.drop(y)
        return add_shortcut(F, y, x) if self.has_residual else y
