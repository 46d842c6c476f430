"""An IdleBlock as a part of an MBBlock, over the same Parameters: what a network of all placements is made of."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .conv import ConvBN, unblocking
from .idle import SIDES, IdleBlock
from .mbblock import MBBlock
from .se import SqueezeExcite
from .slimmable import RunningStatistics, SlicedConv2D, share

__all__ = ["idle_view"]

Part = Tuple[int, int]  # first channel, and the one behind the last


def _part(F, array, axis: int, part: Part):
    return F.slice_axis(array, axis=axis, begin=part[0], end=part[1])


class _PartConv2D(HybridBlock):
    """A 1x1 convolution between a part of its inputs and a part of its outputs."""

    def __init__(self, conv: nn.Conv2D, inputs: Part, outputs: Part):
        super().__init__()
        self._parts = outputs, inputs
        self._kwargs = {**conv._kwargs, "num_filter": outputs[1] - outputs[0]}
        share(self, weight=conv.weight)

    def hybrid_forward(self, F, x, weight):
        for axis, part in enumerate(self._parts):
            weight = _part(F, weight, axis, part)
        return F.Convolution(x, weight, **self._kwargs)


class _PartBatchNorm(nn.BatchNorm):
    """Gamma and beta are a part of those of a layer, the running statistics its own."""

    def __init__(self, layer: nn.BatchNorm, part: Part):
        HybridBlock.__init__(self)
        self._kwargs, self._part = dict(layer._kwargs), part
        self.fuse_relu = layer.fuse_relu
        self.statistics = RunningStatistics(part[1] - part[0])
        if layer.gamma._data is not None:
            self.statistics.initialize(ctx=layer.gamma.list_ctx())
        own = {name: getattr(self.statistics, name) for name in ("running_mean", "running_var")}
        share(self, gamma=layer.gamma, beta=layer.beta, **own)

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        gamma, beta = (_part(F, array, 0, self._part) for array in (gamma, beta))
        return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)


class _PartConvBN(ConvBN):
    """A 1x1 ConvBN between a part of its inputs and a part of its outputs."""

    def __init__(self, unit: ConvBN, inputs: Optional[Part] = None, outputs: Optional[Part] = None):
        HybridBlock.__init__(self)
        channels, in_channels = unit.conv.weight.shape[:2]
        inputs, outputs = inputs or (0, in_channels), outputs or (0, channels)
        self._kernel, self._stride = unit._kernel, unit._stride
        self.conv = _PartConv2D(unit.conv, inputs, outputs)
        self._unblock = unblocking(inputs[1] - inputs[0], outputs[1] - outputs[0], 1)
        is_part = outputs != (0, channels) and isinstance(unit.bn, nn.BatchNorm)
        self.bn = _PartBatchNorm(unit.bn, outputs) if is_part else unit.bn
        self.act = unit.act
        self.set_padding(unit.padding)


class _PartSqueezeExcite(SqueezeExcite):
    """Squeeze-and-excitation with the first of its reduced channels."""

    def __init__(self, se: SqueezeExcite, channels: int, reduced: int):
        HybridBlock.__init__(self)
        self.pool, self.act, self.gate = se.pool, se.act, se.gate
        self.reduce = SlicedConv2D(se.reduce, channels, reduced)
        self.expand = SlicedConv2D(se.expand, reduced, channels)


class _PartMBBlock(MBBlock):
    """An MBBlock on a part of its channels, with all of its hidden ones."""

    def __init__(self, block: MBBlock, part: Part, se: Optional[int], residual: bool):
        HybridBlock.__init__(self)
        self.has_residual, self.drop = residual, block.drop
        assert block.expand is not None, "idle_view asks for it"
        self.expand = _PartConvBN(block.expand, inputs=part)
        self.depthwise, self.project = block.depthwise, _PartConvBN(block.project, outputs=part)
        hidden = block.depthwise.conv.weight.shape[0]
        self.se = block.se
        if block.se is not None and se is not None and se != block.se.reduce.weight.shape[0]:
            self.se = _PartSqueezeExcite(block.se, hidden, se)


def idle_view(
    block: MBBlock,
    channels: int,
    side: str = "left",
    *,
    idle_fraction: float = 0.5,
    se: Optional[int] = None,
    residual: bool = True,
    **options: Any,
) -> IdleBlock:
    """Return the IdleBlock whose parameters are those of an MBBlock, or slices of them.

    The 1x1 convolutions read and write the active channels alone; depthwise convolution, its BN and that of the
    expansion are shared whole, with their statistics; the BN behind the projection has statistics of its own.
    Gradients arrive in the whole Parameters, zero outside of the slices.

    Args:
        block: An MBBlock of stride 1 and equal widths, with an expansion.
        channels: Of its input and output.
        side: Where the active channels are, 'left' or 'right'.
        idle_fraction: As of `IdleBlock`.
        se: Reduced width of squeeze-and-excitation, at most that of `block`.
        residual: As of `MBBlock`.
        options: `merged_concat` of `IdleBlock`.

    Raises:
        ValueError: `block` has no expansion, or the side is none.

    Example:
        >>> block = MBBlock(40, 120, 40)
        >>> idle_view(block, 40, "right").num_active
        20
    """
    if side not in SIDES or block.expand is None:
        raise ValueError(f"an idle view of side {side!r} needs 'left' or 'right', and an MBBlock with an expansion")
    active = channels - int(channels * idle_fraction)
    part = (0, active) if side == "left" else (channels - active, channels)
    return _IdleView(_PartMBBlock(block, part, se, residual), channels, side, idle_fraction, **options)


class _IdleView(IdleBlock):
    def __init__(self, active: MBBlock, channels: int, side: str, idle_fraction: float, merged_concat: bool = True):
        HybridBlock.__init__(self)
        self.num_idle = int(channels * idle_fraction)
        self.num_active = channels - self.num_idle
        self.side, self.merged_concat = side, merged_concat
        self.split_at = self.num_active if side == "left" else self.num_idle
        self.active, self.shuffle = active, None
