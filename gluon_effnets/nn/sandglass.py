"""SandGlass, the block of MobileNeXt, and ConvChain, of which it and the blocks it is compared with are made."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Sequence, Union

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .channels import concat_channels
from .dropout import Dropout
from .mbblock import BlockStyle
from .se import NormalizedSqueezeExcite
from .shortcut import add_shortcut

__all__ = ["SHORTCUTS", "ConvChain", "NarrowShortcuts", "SandGlass", "SqueezeUnit", "Unit"]

SHORTCUTS = ("slice", "mask")


class Unit(NamedTuple):
    """One convolution -> BN -> activation of a chain.

    Attributes:
        channels: Of the output.
        kernel: Side of the kernel.
        stride: Of the convolution.
        act: Name for `make_activation`; None: without activation.
        depthwise: Whether it is depthwise, which keeps the number of channels.
        groups: Of a convolution that is not depthwise.
    """

    channels: int
    kernel: int = 1
    stride: int = 1
    act: Optional[str] = None
    depthwise: bool = False
    groups: int = 1


class SqueezeUnit(NamedTuple):
    """Squeeze-and-excitation between two convolutions of a chain.

    Attributes:
        reduced: Width between its layers.
    """

    reduced: int


class ConvChain(HybridBlock):
    """Units one after the other [-> SE] [+ the first 1 / identity_divisor of the input's channels].

    (N, in_channels, H, W) -> (N, channels of the last unit, H / strides, W / strides). The identity is added where the
    shapes agree (stride 1, equal channels).

    Args:
        in_channels: Channels of the input.
        units: The convolutions, see `Unit`, and any `SqueezeUnit` between them.
        se: Reduced width of squeeze-and-excitation behind the last unit; None: without it.
        residual: False removes the shortcut.
        identity_divisor: Only the first channels // divisor of the input are added.
        shortcut: Form of an identity with a divisor above 1; both give the same numbers (docs/mobilenext.md). 'slice'
            adds a slice and joins it with the rest; 'mask' adds a depthwise 1x1 convolution of the input with ones and
            zeros, which costs less in an exported graph, exports to ONNX, and is for float32 alone.
        drop_connect: Probability, per sample, of dropping the branch.
        style: What all blocks of the network share.

    Raises:
        ValueError: For an unknown form, or a divisor below 1 or above the number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        units: Sequence[Union[Unit, SqueezeUnit]],
        *,
        se: Optional[int] = None,
        residual: bool = True,
        identity_divisor: int = 1,
        shortcut: str = "slice",
        drop_connect: float = 0.0,
        style: BlockStyle = BlockStyle(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut is {shortcut!r}; choose one of {', '.join(SHORTCUTS)}")
        channels, strides = in_channels, 1
        with self.name_scope():
            self.units = nn.HybridSequential()
            with self.units.name_scope():
                for unit in units:
                    if isinstance(unit, SqueezeUnit):
                        self.units.add(NormalizedSqueezeExcite(channels, unit.reduced, style.norm))
                        continue
                    groups = unit.channels if unit.depthwise else unit.groups
                    sizes = (channels, unit.channels, unit.kernel)
                    self.units.add(style.conv_bn(*sizes, stride=unit.stride, groups=groups, act=unit.act))
                    channels, strides = unit.channels, strides * unit.stride
            acts = [unit.act for unit in units if isinstance(unit, Unit) and unit.act]
            act = acts[-1] if acts else "relu"
            self.se = style.squeeze_excite(channels, se, act)
            self.has_residual = residual and strides == 1 and in_channels == channels
            drops = self.has_residual and drop_connect > 0
            self.drop = Dropout(drop_connect, axes=(1, 2, 3)) if drops else None
        self.channels, self.shortcut = channels, shortcut
        self.set_identity_divisor(identity_divisor)

    def set_identity_divisor(self, divisor: int) -> None:
        """Add the first channels // divisor of the input. A network hybridized before must be hybridized again.

        Args:
            divisor: From 1 to the number of channels.

        Raises:
            ValueError: For another divisor.
        """
        if not 1 <= divisor <= self.channels:
            raise ValueError(f"identity_divisor={divisor} must be from 1 to {self.channels}, the number of channels")
        self.identity_channels = self.channels // divisor

    def hybrid_forward(self, F, x):
        return self._with_identity(F, self.units(x), x)

    def tapped(self, F, x):
        """The map that the last depthwise convolution reads, and the output of the block."""
        units = list(self.units._children.values())
        depthwise = [place for place, unit in enumerate(units) if _kernel(unit) > 1]
        if not depthwise:
            raise ValueError("the block has no depthwise convolution, and so no map before it")
        last, y = depthwise[-1], x
        for unit in units[:last]:
            y = unit(y)
        hidden = y
        for unit in units[last:]:
            y = unit(y)
        return hidden, self._with_identity(F, y, x)

    def _with_identity(self, F, y, x):
        if self.se is not None:
            y = self.se(y)
        if self.drop is not None:
            y = self.drop(y)
        if not self.has_residual:
            return y
        if self.identity_channels == self.channels:
            return add_shortcut(F, y, x)
        return (self._add_mask if self.shortcut == "mask" else self._add_slice)(F, y, x)

    def _add_slice(self, F, y, x):
        def part(array, begin, end):
            return F.slice_axis(array, axis=1, begin=begin, end=end)

        kept = self.identity_channels
        return concat_channels(F, part(y, 0, kept) + part(x, 0, kept), part(y, kept, None))

    def _add_mask(self, F, y, x):
        # kept, kept - 1, ..., 1, 0, -1, ...: clipped, a one for every channel to keep, in the fewest operators.
        kept = self.identity_channels
        ones = F.clip(F.arange(start=kept, stop=kept - self.channels, step=-1), 0, 1)
        mask = F.reshape(ones, shape=(self.channels, 1, 1, 1))
        kept_part = F.Convolution(
            x, mask, kernel=(1, 1), num_filter=self.channels, num_group=self.channels, no_bias=True
        )
        return add_shortcut(F, y, kept_part)


class SandGlass(ConvChain):
    """Block of MobileNeXt: [k x k depthwise] -> 1x1 reduce -> 1x1 expand -> [k x k depthwise, stride] [-> SE] [+ x].

    (N, in_channels, H, W) -> (N, channels, H / stride, W / stride), BN behind every convolution, activations behind the
    first and the third. The arguments are those of `MBBlock`, whose place it can take.

    Args:
        in_channels: Channels of the input.
        hidden: Width of the bottleneck.
        channels: Channels of the output.
        kernel: Side of the depthwise kernels.
        stride: Of the last depthwise convolution.
        act: Activation.
        groups: Of both 1x1 convolutions.
        first_depthwise: The official network leaves this convolution out where the width changes;
        last_depthwise: and this one, too, without a stride.
        middle: Units between reduction and expansion.
        chain: Further arguments of `ConvChain`: se, residual, identity_divisor, shortcut, drop_connect and style.

    Raises:
        ValueError: For a stride without the last depthwise convolution, and what `ConvChain` refuses.

    Source: MobileNeXt, arXiv 2007.02269.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        act: str = "relu6",
        groups: int = 1,
        first_depthwise: bool = True,
        last_depthwise: bool = True,
        middle: Sequence[Union[Unit, SqueezeUnit]] = (),
        **chain,
    ):
        if stride > 1 and not last_depthwise:
            raise ValueError(f"stride={stride} needs the last depthwise convolution, which has the stride")
        first = [Unit(in_channels, kernel, act=act, depthwise=True)] if first_depthwise else []
        last = [Unit(channels, kernel, stride, depthwise=True)] if last_depthwise else []
        reduce, expand = Unit(hidden, groups=groups), Unit(channels, act=act, groups=groups)
        super().__init__(in_channels, [*first, reduce, *middle, expand, *last], **chain)
        self.hidden, self.num_reducing = hidden, len(first) + 1


class NarrowShortcuts(HybridBlock):
    """SandGlass blocks in a row, each of which adds the bottleneck of the one before to its own.

    (N, in_channels, H, W) -> (N, channels of the last block, H / strides, W / strides). What is added has been added to
    before, so that a sum runs through all bottlenecks; a wider one adds to its first channels alone. Only the last
    block may have a stride, which lies behind its bottleneck.

    Args:
        in_channels: Channels of the input.
        blocks: Each makes a block of its own input's channels, `make(in_channels, style=...)`, without a shortcut.
        style: What all blocks of the network share.
        drop_connect: Taken as by other blocks, and without effect: there is no branch to drop.

    Source: `i2rnetv5.py` of yitu-opensource/MobileNeXt.
    """

    def __init__(
        self,
        in_channels: int,
        blocks: Sequence[Callable[..., SandGlass]],
        *,
        style: BlockStyle = BlockStyle(),
        drop_connect: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        with self.name_scope():
            self.blocks = nn.HybridSequential()
            with self.blocks.name_scope():
                for make in blocks:
                    block = make(in_channels, style=style)
                    self.blocks.add(block)
                    in_channels = block.channels

    def hybrid_forward(self, F, x):
        return self.tapped(F, x)[1]

    def tapped(self, F, x):
        """The map that the last depthwise convolution reads, and the output of the row."""
        hidden, narrow, kept = x, None, 0
        for block in self.blocks._children.values():
            for number, unit in enumerate(block.units._children.values(), 1):
                hidden = x if unit.kernel > 1 else hidden
                x = unit(x)
                if number == block.num_reducing:
                    x = narrow = x if narrow is None else _add_first(F, x, block.hidden, narrow, kept)
            kept = block.hidden
        return hidden, x


def _add_first(F, wide, channels: int, narrow, kept: int):
    """Add `narrow`, of `kept` channels, to the first of the `channels` of `wide`."""
    if kept == channels:
        return add_shortcut(F, wide, narrow)
    first = F.slice_axis(wide, axis=1, begin=0, end=kept) + narrow
    return concat_channels(F, first, F.slice_axis(wide, axis=1, begin=kept, end=None))


def _kernel(unit: HybridBlock) -> int:
    return getattr(unit, "kernel", 1)
