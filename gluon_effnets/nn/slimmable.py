"""Layers and units that run on the first channels of whole ones, over the same Parameters: a width is a view.

The width of a view is fixed when it is made, so that every view hybridizes to a static graph of its own.
Gradients arrive in the whole Parameters, zero outside the prefix (DS-Net, section 3.1: dynamic slice-able convolution).
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import numpy as np
from mxnet.gluon import Parameter, nn
from mxnet.gluon.block import HybridBlock

from .activations import make_activation
from .conv import ConvBN, unblocking
from .se import SqueezeExcite, conv_bn_se
from .shortcut import add_shortcut

__all__ = [
    "BottleneckUnit",
    "ChannelGroupNorm",
    "RunningStatistics",
    "SeparableUnit",
    "SlicedConv2D",
    "SlicedConvBN",
    "SlicedDense",
    "SlicedSqueezeExcite",
    "WidthStatistics",
    "prefix_of",
    "share",
    "sliced_norm",
]


def prefix_of(F, array, *sizes: int):
    """The first `sizes` entries of the leading axes of an array."""
    for axis, size in enumerate(sizes):
        # `slice` would do it at once, but crashes on weights that a convolution has left in oneDNN's layout.
        array = F.slice_axis(array, axis=axis, begin=0, end=size)
    return array


def share(block: HybridBlock, **params: Optional[Parameter]) -> None:
    """Give `block` Parameters of another block as attributes; None ones are left out."""
    for name, param in params.items():
        if param is not None:
            setattr(block, name, param)
            # The cached graph of a block knows what `collect_params` finds, not its attributes.
            block.params.update({param.name: param})


class RunningStatistics(HybridBlock):
    """Running mean and variance of `channels` channels: what a BN layer has once for every width."""

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        fixed = {"shape": (channels,), "grad_req": "null", "differentiable": False}
        self.running_mean = self.params.get("running_mean", init="zeros", **fixed)
        self.running_var = self.params.get("running_var", init="ones", **fixed)

    def cast(self, dtype):
        # As BN layers do: statistics stay out of float16.
        super().cast("float32" if np.dtype(dtype).name == "float16" else dtype)


class WidthStatistics(HybridBlock):
    """Running statistics of BN layers at other widths than their own: children '<path of layer>.<width>'.

    Args:
        net: The network with the layers.
    """

    def __init__(self, net: HybridBlock, **kwargs):
        super().__init__(**kwargs)
        keys = {param: key for key, param in net._collect_params_with_prefix().items()}
        self._paths = {param: key.rsplit(".", 1)[0] for param, key in keys.items()}

    def of(self, layer: nn.BatchNorm, channels: int) -> HybridBlock:
        """Return what holds the statistics of a layer at a width: the layer itself at its own; made if need be."""
        if channels == layer.gamma.shape[0]:
            return layer
        name = f"{self._paths[layer.gamma]}.{channels}"
        if name not in self._children:
            with self.name_scope():
                self.register_child(RunningStatistics(channels), name)
        return self._children[name]

    def widths(self, layer: nn.BatchNorm) -> Dict[int, HybridBlock]:
        """Return {width: holder of the statistics} of a layer, its own width last."""
        path = self._paths[layer.gamma]
        found = {int(name.rsplit(".", 1)[1]): block for name, block in self._children.items() if _is_at(name, path)}
        return {**dict(sorted(found.items())), layer.gamma.shape[0]: layer}


def _is_at(name: str, path: str) -> bool:
    return name.rsplit(".", 1)[0] == path


class SlicedConv2D(HybridBlock):
    """`conv` on its first `in_channels` channels, giving the first `channels`; depthwise if `conv` is."""

    def __init__(self, conv: nn.Conv2D, in_channels: int, channels: int):
        super().__init__()
        self._kwargs = {**conv._kwargs, "num_filter": channels}
        depthwise = conv._kwargs["num_group"] > 1
        if depthwise:
            self._kwargs["num_group"] = channels
        self.active = {"weight": (channels, 1 if depthwise else in_channels, *conv.weight.shape[2:])}
        if conv.bias is not None:
            self.active["bias"] = (channels,)
        share(self, weight=conv.weight, bias=conv.bias)

    def hybrid_forward(self, F, x, weight, bias=None):
        weight = prefix_of(F, weight, *self.active["weight"][:2])
        if bias is None:
            return F.Convolution(x, weight, **self._kwargs)
        return F.Convolution(x, weight, prefix_of(F, bias, *self.active["bias"]), **self._kwargs)


class SlicedDense(HybridBlock):
    """`dense` on its first `in_units` inputs, with all outputs."""

    def __init__(self, dense: nn.Dense, in_units: int):
        super().__init__()
        self._units = dense.weight.shape[0]
        self.active = {"weight": (self._units, in_units)}
        if dense.bias is not None:
            self.active["bias"] = dense.bias.shape
        share(self, weight=dense.weight, bias=dense.bias)

    def hybrid_forward(self, F, x, weight, bias=None):
        weight = prefix_of(F, weight, *self.active["weight"])
        return F.FullyConnected(x, weight, bias, num_hidden=self._units, no_bias=bias is None, flatten=False)


class ChannelGroupNorm(HybridBlock):
    """Group normalization of `group_size` channels at a time, with gamma and beta per channel.

    (N, C, H, W) -> the same shape. Groups of a fixed size, not a fixed number of groups: those of a prefix are then
    those of the whole.

    Args:
        in_channels: C.
        epsilon: Added to the variance.
        momentum: Without effect; there for the signature that all normalization layers have.
        group_size: Channels of a group.

    Raises:
        ValueError: If the groups do not divide the channels.
    """

    def __init__(self, in_channels: int, epsilon: float = 1e-5, momentum: float = 0.9, group_size: int = 16, **kwargs):
        super().__init__(**kwargs)
        if in_channels % group_size:
            raise ValueError(f"group_size={group_size} must divide the {in_channels} channels")
        self._kwargs = {"eps": epsilon, "group_size": group_size}
        with self.name_scope():
            self.gamma = self.params.get("gamma", shape=(in_channels,), init="ones")
            self.beta = self.params.get("beta", shape=(in_channels,), init="zeros")

    def hybrid_forward(self, F, x, gamma, beta, channels=None):
        channels = channels or self.gamma.shape[0]
        gamma, beta = (prefix_of(F, array, channels) for array in (gamma, beta))
        groups = channels // self._kwargs["group_size"]
        # MXNet's own gamma and beta are per group.
        plain = F.slice_axis(gamma, axis=0, begin=0, end=groups)
        x = F.GroupNorm(x, F.ones_like(plain), F.zeros_like(plain), num_groups=groups, eps=self._kwargs["eps"])
        gamma, beta = (F.reshape(array, (1, -1, 1, 1)) for array in (gamma, beta))
        return F.broadcast_add(F.broadcast_mul(x, gamma), beta)


class _SlicedGroupNorm(ChannelGroupNorm):
    def __init__(self, layer: ChannelGroupNorm, channels: int):
        HybridBlock.__init__(self)
        self._kwargs = layer._kwargs
        self.active = {"gamma": (channels,), "beta": (channels,)}
        share(self, gamma=layer.gamma, beta=layer.beta)

    def hybrid_forward(self, F, x, gamma, beta):
        return super().hybrid_forward(F, x, gamma, beta, self.active["gamma"][0])


class _SlicedBatchNorm(nn.BatchNorm):
    """What makes a BN layer of any class a view: gamma and beta of the whole, statistics of the width."""

    def __init__(self, layer: nn.BatchNorm, channels: int, statistics: HybridBlock, frozen: bool):
        HybridBlock.__init__(self)
        self._kwargs = {**layer._kwargs, "use_global_stats": frozen or layer._kwargs["use_global_stats"]}
        if "key" in self._kwargs:  # by which SyncBatchNorm finds its other devices
            self._kwargs["key"] = self.prefix
        self.fuse_relu = layer.fuse_relu
        self.active = {"gamma": (channels,), "beta": (channels,)}
        of_width = {"running_mean": statistics.running_mean, "running_var": statistics.running_var}
        share(self, gamma=layer.gamma, beta=layer.beta, **of_width)

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        gamma, beta = (prefix_of(F, array, *self.active["gamma"]) for array in (gamma, beta))
        return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)


_sliced_classes: Dict[type, type] = {}


def _sliced_batch_norm(layer_class: type) -> type:
    if layer_class not in _sliced_classes:
        _sliced_classes[layer_class] = type(f"Sliced{layer_class.__name__}", (_SlicedBatchNorm, layer_class), {})
    return _sliced_classes[layer_class]


def sliced_norm(layer: Any, channels: int, statistics: WidthStatistics, frozen: bool = False) -> HybridBlock:
    """Return the view of a BN layer or ChannelGroupNorm. `frozen`: BN uses running statistics in training too."""
    if isinstance(layer, ChannelGroupNorm):
        return _SlicedGroupNorm(layer, channels)
    return _sliced_batch_norm(type(layer))(layer, channels, statistics.of(layer, channels), frozen)


class SlicedConvBN(ConvBN):
    """`unit` on its first `in_channels` channels, giving the first `channels`."""

    def __init__(
        self, unit: ConvBN, in_channels: int, channels: int, statistics: WidthStatistics, frozen: bool = False
    ):
        HybridBlock.__init__(self)
        self._kernel, self._stride, self._odd_input = unit._kernel, unit._stride, unit._odd_input
        self.conv = SlicedConv2D(unit.conv, in_channels, channels)
        self._unblock = unblocking(in_channels, channels, self.conv._kwargs["num_group"])
        self.bn = sliced_norm(unit.bn, channels, statistics, frozen)
        self.act = unit.act
        self.set_padding(unit.padding)


class SlicedSqueezeExcite(SqueezeExcite):
    """`se` on its first `channels` channels; the reduced width stays (DS-Net's code)."""

    def __init__(self, se: SqueezeExcite, channels: int):
        HybridBlock.__init__(self)
        reduced = se.reduce.weight.shape[0]
        self.pool, self.act, self.gate = se.pool, se.act, se.gate
        self.reduce = SlicedConv2D(se.reduce, channels, reduced)
        self.expand = SlicedConv2D(se.expand, reduced, channels)


class SeparableUnit(HybridBlock):
    """3x3 depthwise [-> SE] -> 1x1, BN and activation behind both convolutions.

    (N, in, H, W) -> (N, channels, H / stride, W / stride). The parts are given, so that whole and sliced units are one
    class.

    Args:
        depthwise: The depthwise convolution.
        se: Squeeze-and-excitation behind it, or None.
        pointwise: The 1x1 convolution.

    Source: DS-Net, arXiv 2103.13258.
    """

    def __init__(self, depthwise: ConvBN, se: Optional[SqueezeExcite], pointwise: ConvBN):
        super().__init__()
        self.depthwise, self.se, self.pointwise = depthwise, se, pointwise

    def sliced(
        self, in_channels: int, channels: int, statistics: WidthStatistics, frozen: bool = False
    ) -> SeparableUnit:
        """Return the view of these widths."""
        return SeparableUnit(
            SlicedConvBN(self.depthwise, in_channels, in_channels, statistics, frozen),
            self.se and SlicedSqueezeExcite(self.se, in_channels),
            SlicedConvBN(self.pointwise, in_channels, channels, statistics, frozen),
        )

    def madds(self, area_in, area_out, in_channels, channels):
        """Multiply-adds at these areas of the maps and widths: numbers, or symbols of equal shape."""
        se = 2 * self.se.reduce.weight.shape[0] * in_channels if self.se else 0
        return se + area_out * (self.depthwise._kernel**2 * in_channels + in_channels * channels)

    def hybrid_forward(self, F, x):
        return self.pointwise(conv_bn_se(F, self.depthwise, self.se, x))


class BottleneckUnit(HybridBlock):
    """Unit of a slimmable ResNet: ReLU([shortcut](x) + 1x1(3x3(1x1([SE](x))))), a norm after every convolution.

    (N, in, H, W) -> (N, channels, H / stride, W / stride); the inner width is a quarter of `channels`. The parts are
    given, so that whole and sliced units are one class.

    Args:
        se: Squeeze-and-excitation of the input, or None.
        reduce: The first 1x1 convolution, with ReLU.
        conv: The 3x3 convolution, with ReLU.
        expand: The last 1x1 convolution.
        shortcut: The convolution beside them; None: the identity.
    """

    def __init__(
        self,
        se: Optional[SqueezeExcite],
        reduce: ConvBN,
        conv: ConvBN,
        expand: ConvBN,
        shortcut: Optional[ConvBN],
    ):
        super().__init__()
        self.se, self.reduce, self.conv, self.expand, self.shortcut = se, reduce, conv, expand, shortcut
        self.act = make_activation("relu")

    def sliced(
        self, in_channels: int, channels: int, statistics: WidthStatistics, frozen: bool = False
    ) -> BottleneckUnit:
        """Return the view of these widths."""
        *branch, (shortcut, widths) = self.convs(in_channels, channels)
        reduce, conv, expand = (SlicedConvBN(unit, *sizes, statistics, frozen) for unit, sizes in branch if unit)
        return BottleneckUnit(
            self.se and SlicedSqueezeExcite(self.se, in_channels),
            reduce,
            conv,
            expand,
            shortcut and SlicedConvBN(shortcut, *widths, statistics, frozen),
        )

    def convs(self, in_channels: int, channels: int) -> Tuple[Tuple[Optional[ConvBN], Tuple[int, int]], ...]:
        """The convolutions, each with its two widths; that of the shortcut, the last, may be None."""
        inner = channels // 4
        return (
            (self.reduce, (in_channels, inner)),
            (self.conv, (inner, inner)),
            (self.expand, (inner, channels)),
            (self.shortcut, (in_channels, channels)),
        )

    def madds(self, area_in, area_out, in_channels, channels):
        """Multiply-adds at these areas of the maps and widths: numbers, or symbols of equal shape."""
        inner = channels / 4
        se = 2 * self.se.reduce.weight.shape[0] * in_channels if self.se else 0
        shortcut = area_out * in_channels * channels if self.shortcut else 0
        branch = area_in * in_channels * inner + area_out * inner * (self.conv._kernel**2 * inner + channels)
        return se + shortcut + branch

    def hybrid_forward(self, F, x):
        y = self.se(x) if self.se is not None else x
        y = self.expand(self.conv(self.reduce(y)))
        return self.act(add_shortcut(F, y, x if self.shortcut is None else self.shortcut(x)))
