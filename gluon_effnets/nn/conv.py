"""ConvBN: convolution, batch normalization and activation as one unit, with symmetric or TensorFlow 'SAME' padding."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .activations import make_activation
from .channels import check_divisors
from .compiled import depthwise_norm_act, norm_act
from .layout import plain_layout
from .variants import training_on_cpu

__all__ = ["ConvBN", "Norm", "unblocking"]

PADDINGS = ("symmetric", "same")
# Channels in a block of oneDNN's layout.
BLOCK = 16


class Norm(NamedTuple):
    """How every normalization layer of a network is made: call it with the number of channels.

    Attributes:
        epsilon: Added to the variance.
        momentum: Share of the old running value that is kept (MXNet's convention; PyTorch's is 1 minus it).
        layer: Class of the layers; may be `mxnet.gluon.contrib.nn.SyncBatchNorm`, with its `num_devices` in `kwargs`.
        kwargs: Further arguments of the layers.

    Example:
        >>> ConvBN(3, 16, 3, stride=2, act="relu", norm=Norm(epsilon=1e-3))
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    layer: Any = nn.BatchNorm
    kwargs: Mapping[str, Any] = {}

    def __call__(self, channels: int) -> HybridBlock:
        return self.layer(in_channels=channels, epsilon=self.epsilon, momentum=self.momentum, **self.kwargs)


def unblocking(in_channels: int, channels: int, groups: int) -> Tuple[bool, bool]:
    """Whether the plain memory layout pays behind a convolution: in inference, in training (on a CPU).

    Groups that do not fill oneDNN's blocks: BN, pooling and their gradients on its layout take up to 50 times as long
    as on the plain one (docs/shufflenet.md). So does BN's gradient where its map is in blocks of 8 channels, which
    oneDNN takes if 16 do not fit, and what comes back to it in blocks of 16, or the other way round.
    """
    inference = 1 < groups < channels and bool(channels // groups % BLOCK or in_channels // groups % BLOCK)
    return inference, bool(groups > 1 or channels % BLOCK or in_channels % BLOCK)


class ConvBN(HybridBlock):
    """Convolution, BN and activation: (N, in_channels, H, W) -> (N, channels, H / stride, W / stride).

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        kernel: Side of the square kernel, in pixels.
        stride: Of the convolution.
        groups: Of the convolution; `in_channels` of them make it depthwise.
        act: Name for `make_activation`; None: without activation.
        norm: How the BN layer is made.
        padding: 'symmetric', or 'same', which reproduces TensorFlow at stride 2: for an even input the one extra pixel
            lies right and below. For an odd input TensorFlow pads symmetrically: `set_odd_input`.
        use_bias: Whether the convolution has a bias, which BN makes superfluous; some official networks have it.

    Raises:
        ValueError: For channels that `groups` does not divide, another padding or an unknown activation.

    Example:
        >>> unit = ConvBN(3, 16, 3, stride=2, act="hard_swish")
        >>> unit.initialize()
        >>> unit(mx.nd.zeros((1, 3, 32, 32))).shape
        (1, 16, 16, 16)
    """

    _odd_input, _dilation = False, 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        act: Optional[str] = None,
        norm: Norm = Norm(),
        padding: str = "symmetric",
        use_bias: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_divisors("inputs", in_channels, groups)
        check_divisors("outputs", channels, groups)
        self._kernel, self._stride = kernel, stride
        with self.name_scope():
            self.conv = nn.Conv2D(
                channels, kernel, stride, kernel // 2, groups=groups, use_bias=use_bias, in_channels=in_channels
            )
            self.bn = norm(channels)
            self.act = make_activation(act) if act else None
        self._unblock = unblocking(in_channels, channels, groups)
        self.set_padding(padding)

    @property
    def kernel(self) -> int:
        """Side of the kernel, in pixels."""
        return self._kernel

    @property
    def stride(self) -> int:
        """Of the convolution."""
        return self._stride

    def set_padding(self, padding: str) -> None:
        """Choose the padding. Call it before the first hybridized forward, or hybridize again.

        Args:
            padding: 'symmetric' or 'same'.

        Raises:
            ValueError: For another padding.
        """
        if padding not in PADDINGS:
            raise ValueError(f"padding is {padding!r}; choose one of {', '.join(PADDINGS)}")
        self.padding = padding
        self._pad_end = padding == "same" and self._stride == 2 and self._kernel > 1 and not self._odd_input
        before = (self._kernel - 2) // 2 if self._pad_end else self._kernel // 2 * self._dilation
        self.conv._kwargs["pad"] = (0, 0) if self._pad_end else (before, before)
        self._pad_width = (0, 0, 0, 0, before, before + 1, before, before + 1)

    def set_dilation(self, dilation: int) -> None:
        """Drop the stride, and read every `dilation`-th pixel. Call it as `set_padding`.

        Args:
            dilation: Distance of the pixels that a kernel reads; 1: neighbors.
        """
        self._stride, self._dilation = 1, dilation
        self.conv._kwargs["stride"], self.conv._kwargs["dilate"] = (1, 1), (dilation, dilation)
        self.set_padding(self.padding)

    def set_odd_input(self, odd: bool) -> None:
        """Say whether the side of the input is odd, which decides what 'same' is at stride 2. Call it as `set_padding`.

        Args:
            odd: False until this is called.
        """
        self._odd_input = odd
        self.set_padding(self.padding)

    def with_mean(self, F, x):
        """The result, and its means (N, channels, 1, 1) where they cost nothing, else None."""
        before = self._pad_width[4]
        together = depthwise_norm_act(F, self.conv, self.bn, self.act, x, before, before + self._pad_end)
        if together is not None:
            return together
        if self._pad_end:
            x = F.pad(x, mode="constant", constant_value=0, pad_width=self._pad_width)
        x = self.conv(x)
        if self._unblock[training_on_cpu()]:
            x = plain_layout(F, x)
        return norm_act(F, self.bn, self.act, x), None

    def hybrid_forward(self, F, x):
        return self.with_mean(F, x)[0]
