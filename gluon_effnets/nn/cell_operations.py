"""The operations of DARTS cells, from one map of a cell to a term of another one; SandGlass is one of them here."""

from __future__ import annotations

from typing import Callable, Dict, Optional

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .channels import concat_channels
from .conv import ConvBN, Norm
from .mbblock import BlockStyle
from .sandglass import SandGlass

__all__ = ["OPERATIONS", "FactorizedReduce", "chain", "is_pooling", "make_operation", "relu_conv_bn"]


def chain(*layers: HybridBlock) -> nn.HybridSequential:
    """Layers one after the other."""
    block = nn.HybridSequential()
    block.add(*layers)
    return block


def relu_conv_bn(in_channels: int, channels: int, norm: Norm) -> HybridBlock:
    """ReLU -> 1x1 convolution -> BN: (N, in_channels, H, W) -> (N, channels, H, W)."""
    return chain(nn.Activation("relu"), ConvBN(in_channels, channels, norm=norm))


class FactorizedReduce(HybridBlock):
    """ReLU -> two 1x1 convolutions of stride 2, the second one of the map without its first row and column -> BN.

    (N, in_channels, H, W) -> (N, channels, H / 2, W / 2), for even H and W.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        norm: How the BN layer is made.

    Raises:
        ValueError: An odd number of channels.

    Source: DARTS, arXiv 1806.09055, `operations.py` of its repository.
    """

    def __init__(self, in_channels: int, channels: int, norm: Norm = Norm(), **kwargs):
        super().__init__(**kwargs)
        if channels % 2:
            raise ValueError(f"channels is {channels}; a reduction makes half of them in each of two convolutions")
        with self.name_scope():
            self.even = nn.Conv2D(channels // 2, 1, 2, use_bias=False, in_channels=in_channels)
            self.odd = nn.Conv2D(channels // 2, 1, 2, use_bias=False, in_channels=in_channels)
            self.bn = norm(channels)

    def hybrid_forward(self, F, x):
        x = F.relu(x)
        shifted = F.slice_axis(F.slice_axis(x, axis=2, begin=1, end=None), axis=3, begin=1, end=None)
        return self.bn(concat_channels(F, self.even(x), self.odd(shifted)))


def _depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> HybridBlock:
    pad = kernel // 2 * dilation
    options = {"groups": channels, "use_bias": False, "in_channels": channels}
    return nn.Conv2D(channels, kernel, stride, pad, dilation, **options)


def _separable(kernel: int) -> Callable[..., HybridBlock]:
    def make(channels: int, stride: int, norm: Norm, ratio: int) -> HybridBlock:
        layers = []
        for step in (stride, 1):
            layers += [nn.Activation("relu"), _depthwise(channels, kernel, step), ConvBN(channels, channels, norm=norm)]
        return chain(*layers)

    return make


def _dilated(kernel: int) -> Callable[..., HybridBlock]:
    def make(channels: int, stride: int, norm: Norm, ratio: int) -> HybridBlock:
        depthwise = _depthwise(channels, kernel, stride, dilation=2)
        return chain(nn.Activation("relu"), depthwise, ConvBN(channels, channels, norm=norm))

    return make


def _max_pool(channels: int, stride: int, norm: Norm, ratio: int) -> HybridBlock:
    return nn.MaxPool2D(3, stride, 1)


def _avg_pool(channels: int, stride: int, norm: Norm, ratio: int) -> HybridBlock:
    return nn.AvgPool2D(3, stride, 1, count_include_pad=False)


def _skip(channels: int, stride: int, norm: Norm, ratio: int) -> Optional[HybridBlock]:
    return None if stride == 1 else FactorizedReduce(channels, channels, norm)


def _sandglass(channels: int, stride: int, norm: Norm, ratio: int) -> HybridBlock:
    return SandGlass(channels, max(1, channels // ratio), channels, 3, stride=stride, style=BlockStyle(norm))


# In the order of DARTS's code, which decides between equals. 'none' is no term at all, and never chosen for a network.
OPERATIONS: Dict[str, Optional[Callable[..., Optional[HybridBlock]]]] = {
    "none": None,
    "max_pool_3x3": _max_pool,
    "avg_pool_3x3": _avg_pool,
    "skip_connect": _skip,
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "dil_conv_3x3": _dilated(3),
    "dil_conv_5x5": _dilated(5),
    "sandglass_3x3": _sandglass,
}


def make_operation(name: str, channels: int, stride: int, norm: Norm, ratio: int = 4) -> Optional[HybridBlock]:
    """Make an operation: (N, channels, H, W) -> (N, channels, H / stride, W / stride). None is the identity.

    Args:
        name: One of `OPERATIONS` but 'none'.
        channels: Of input and output.
        stride: 1, or 2 from an input of a reduction cell.
        norm: How BN layers are made.
        ratio: Channels to those of the bottleneck of a SandGlass block.
    """
    make = OPERATIONS[name]
    assert make is not None, "'none' is no operation of a network"
    return make(channels, stride, norm, ratio)


def is_pooling(name: str) -> bool:
    """Whether an operation only pools, which a search puts a BN layer behind."""
    return "pool" in name
