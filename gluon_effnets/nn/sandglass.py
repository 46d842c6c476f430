"""SandGlass, the block of MobileNeXt, and ConvChain, of which it and the blocks it is compared with are made."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .channels import concat_channels
from .dropout import Dropout
from .mbblock import BlockStyle
from .shortcut import add_shortcut

__all__ = ["SHORTCUTS", "ConvChain", "SandGlass", "Unit"]

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


class ConvChain(HybridBlock):
    """Units one after the other [-> SE] [+ the first 1 / identity_divisor of the input's channels].

    (N, in_channels, H, W) -> (N, channels of the last unit, H / strides, W / strides). The identity is added where the
    shapes agree (stride 1, equal channels).

    Args:
        in_channels: Channels of the input.
        units: The convolutions, see `Unit`.
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
        units: Sequence[Unit],
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
                    groups = unit.channels if unit.depthwise else unit.groups
                    sizes = (channels, unit.channels, unit.kernel)
                    self.units.add(style.conv_bn(*sizes, stride=unit.stride, groups=groups, act=unit.act))
                    channels, strides = unit.channels, strides * unit.stride
            act = next((unit.act for unit in reversed(units) if unit.act), "relu")
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
        depthwise = [place for place, unit in enumerate(units) if unit.kernel > 1]
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
        **chain,
    ):
        if stride > 1 and not last_depthwise:
            raise ValueError(f"stride={stride} needs the last depthwise convolution, which has the stride")
        first = [Unit(in_channels, kernel, act=act, depthwise=True)] if first_depthwise else []
        last = [Unit(channels, kernel, stride, depthwise=True)] if last_depthwise else []
        pointwise = [Unit(hidden, groups=groups), Unit(channels, act=act, groups=groups)]
        super().__init__(in_channels, [*first, *pointwise, *last], **chain)
