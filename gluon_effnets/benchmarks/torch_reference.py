"""Our networks in PyTorch, block by block as its users write them, to measure training beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, Optional

from mxnet.gluon import nn as gluon
from mxnet.gluon.block import HybridBlock

from .._requirements import optional_import
from ..models import ClassificationNet
from ..models.staged import StagedNet
from ..nn import (
    ChannelShuffle,
    ConvBN,
    ConvChain,
    Dropout,
    HardSigmoid,
    HardSwish,
    IdleBlock,
    IdleRun,
    MBBlock,
    ReLU6,
    SandGlass,
    ShuffleUnit,
    ShuffleUnitV2,
    SqueezeExcite,
    Swish,
)

__all__ = ["NoCounterpart", "TorchTraining", "torch_like"]

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = optional_import("torch", extra="torch", why="the same network in PyTorch")
    nn = torch.nn


class NoCounterpart(ValueError):
    """A network, or a block of one, that is not written in PyTorch here."""

    def __init__(self, block: HybridBlock):
        super().__init__(
            f"no PyTorch beside {type(block).__name__}: only networks of MBBlocks, IdleBlocks, SandGlass blocks, "
            "ShuffleUnits and plain chains of convolutions have a counterpart"
        )


def torch_like(net: ClassificationNet) -> nn.Sequential:
    """The counterpart of one of our networks: (N, in_channels, H, W) -> logits (N, num_classes), in NCHW.

    Layers are made in the order of ours, so weights map one to one; they are drawn anew.
    Raises NoCounterpart (a ValueError) for a network with a block that this file does not know.
    """
    # Only of these it is known that they are their features and output, one after the other.
    if not isinstance(net, StagedNet):
        raise NoCounterpart(net)
    return _sequence(net.features, net.output)


def _counterpart(block: HybridBlock) -> nn.Module:
    # The exact type: a subclass may compute something else.
    if type(block) not in _COUNTERPARTS:
        raise NoCounterpart(block)
    return _COUNTERPARTS[type(block)](block)


def _sequence(*blocks: Optional[HybridBlock]) -> nn.Sequential:
    return nn.Sequential(*(_counterpart(block) for block in blocks if block is not None))


def _conv(layer: gluon.Conv2D) -> nn.Conv2d:
    keys = {"kernel": "kernel_size", "stride": "stride", "pad": "padding", "num_group": "groups"}
    options = {theirs: layer._kwargs[ours] for ours, theirs in keys.items()}
    channels, per_group = layer.weight.shape[:2]
    return nn.Conv2d(per_group * options["groups"], channels, bias=layer.bias is not None, **options)


def _batch_norm(layer: gluon.BatchNorm) -> nn.BatchNorm2d:
    # Its momentum is the share of the new value, ours the share of the old one.
    norm = nn.BatchNorm2d(layer.gamma.shape[0], layer._kwargs["eps"], 1 - layer._kwargs["momentum"])
    norm.weight.requires_grad = not layer._kwargs["fix_gamma"]  # gamma counts as 1 then, as it begins here
    return norm


def _linear(layer: gluon.Dense) -> nn.Linear:
    units, in_units = layer.weight.shape
    return nn.Linear(in_units, units, bias=layer.bias is not None)


def _pooling(make: Callable) -> Callable:
    return lambda layer: make(*(layer._kwargs[key] for key in ("kernel", "stride", "pad")))


def _activation(layer: gluon.Activation) -> nn.Module:
    return {"relu": lambda: nn.ReLU(inplace=True), "sigmoid": nn.Sigmoid}[layer._act_type]()


def _dropout(layer: gluon.Dropout) -> nn.Module:
    return _DropConnect(layer._rate) if layer._axes else nn.Dropout(layer._rate)


class _DropConnect(nn.Module):
    """Drops whole samples."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training:
            return x
        keep = 1 - self.rate
        return x * x.new_empty((len(x), 1, 1, 1)).bernoulli_(keep).div_(keep)


def _conv_bn(block: ConvBN) -> nn.Sequential:
    # TensorFlow's 'SAME', which PyTorch's convolutions refuse at stride 2.
    pad = [nn.ZeroPad2d(block._pad_width[4:])] if block._pad_end else []
    return nn.Sequential(*pad, *_sequence(block.conv, block.bn, block.act))


class _SqueezeExcite(nn.Module):
    def __init__(self, block: SqueezeExcite):
        super().__init__()
        self.gate = _sequence(block.pool, block.reduce, block.act, block.expand, block.gate)

    def forward(self, x):
        return x * self.gate(x)


class _Residual(nn.Module):
    """A branch, and beside it the identity or only its first channels."""

    def __init__(self, branch: nn.Sequential, has_residual: bool, identity_channels: Optional[int] = None):
        super().__init__()
        self.branch, self.has_residual, self.identity_channels = branch, has_residual, identity_channels

    def forward(self, x):
        y = self.branch(x)
        if not self.has_residual:
            return y
        kept = self.identity_channels
        if kept is None:
            return y + x
        return torch.cat((y[:, :kept] + x[:, :kept], y[:, kept:]), dim=1)


def _mbblock(block: MBBlock) -> _Residual:
    return _Residual(_sequence(block.expand, block.depthwise, block.se, block.project, block.drop), block.has_residual)


def _chain(chain: ConvChain) -> _Residual:
    kept = chain.identity_channels if chain.identity_channels < chain.channels else None
    return _Residual(_sequence(chain.units, chain.se, chain.drop), chain.has_residual, kept)


class _ChannelShuffle(nn.Module):
    def __init__(self, shuffle: ChannelShuffle):
        super().__init__()
        self.groups = shuffle._shape[1]

    def forward(self, x):
        n, channels, height, width = x.shape
        x = x.view(n, self.groups, channels // self.groups, height, width)
        return x.transpose(1, 2).reshape(n, channels, height, width)


class _IdleBlock(nn.Module):
    def __init__(self, block: IdleBlock):
        super().__init__()
        self.active = _mbblock(block.active)
        self.left_is_active = block.side == "left"
        self.sizes = (block.split_at, block.num_active + block.num_idle - block.split_at)
        self.last = _sequence(block.shuffle)

    def forward(self, x):
        left, right = x.split(self.sizes, dim=1)
        parts = (self.active(left), right) if self.left_is_active else (left, self.active(right))
        return self.last(torch.cat(parts, dim=1))


class _ShuffleUnit(nn.Module):
    def __init__(self, unit: ShuffleUnit):
        super().__init__()
        inner = (unit.shuffle, unit.depthwise) if unit.before else (unit.depthwise, unit.shuffle)
        self.branch = _sequence(unit.reduce, *inner, unit.expand)
        self.pool = _counterpart(unit.pool) if unit.pool is not None else None
        self.last = _sequence(unit.se, unit.drop)

    def forward(self, x):
        y = self.branch(x)
        if self.pool is not None:
            return self.last(torch.cat((self.pool(x), nn.functional.relu(y)), dim=1))
        return nn.functional.relu(self.last(y) + x)


class _ShuffleUnitV2(nn.Module):
    def __init__(self, unit: ShuffleUnitV2):
        super().__init__()
        if unit.update is not None:
            raise NoCounterpart(unit.update)
        self.first = _sequence(unit.first)
        self.proj = _counterpart(unit.proj) if unit.proj is not None else None
        self.branch = _counterpart(unit.branch)
        self.last = _sequence(unit.last)

    def forward(self, x):
        if self.proj is not None:
            passing, active = self.proj(x), x
        else:
            passing, active = self.first(x).chunk(2, dim=1)
        return self.last(torch.cat((passing, self.branch(active)), dim=1))


_COUNTERPARTS: Dict[type, Callable[[HybridBlock], nn.Module]] = {
    gluon.Activation: _activation,
    HardSigmoid: lambda _: nn.Hardsigmoid(),
    HardSwish: lambda _: nn.Hardswish(inplace=True),
    ReLU6: lambda _: nn.ReLU6(inplace=True),
    Swish: lambda _: nn.SiLU(inplace=True),
    gluon.Conv2D: _conv,
    gluon.BatchNorm: _batch_norm,
    gluon.Dense: _linear,
    Dropout: _dropout,
    gluon.Dropout: _dropout,
    gluon.AvgPool2D: _pooling(nn.AvgPool2d),
    gluon.MaxPool2D: _pooling(nn.MaxPool2d),
    gluon.GlobalAvgPool2D: lambda _: nn.AdaptiveAvgPool2d(1),
    gluon.Flatten: lambda _: nn.Flatten(),
    gluon.HybridSequential: lambda blocks: _sequence(*blocks),
    ChannelShuffle: _ChannelShuffle,
    ConvBN: _conv_bn,
    ConvChain: _chain,
    IdleBlock: _IdleBlock,
    # Split and joined in every block, as one writes it; ours does so once per run.
    IdleRun: lambda run: _sequence(*run),
    MBBlock: _mbblock,
    SandGlass: _chain,
    ShuffleUnit: _ShuffleUnit,
    ShuffleUnitV2: _ShuffleUnitV2,
    SqueezeExcite: _SqueezeExcite,
}


class TorchTraining:
    """Steps of Nesterov SGD on one random batch held in memory: what the training loop of PyTorch's examples does.

    Raises NoCounterpart (a ValueError) for a network that `torch_like` refuses.
    """

    def __init__(self, net: ClassificationNet, batch_size: int, image_size: int, channels_last: bool = False):
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = torch_like(net).to(self.device, memory_format=layout).train()
        shape = (batch_size, net.in_channels, image_size, image_size)
        self.x = torch.randn(shape, device=self.device).contiguous(memory_format=layout)
        self.label = torch.arange(batch_size, device=self.device) % net.num_classes
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def wait(self) -> None:
        """Return when everything is computed."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def step(self, mark: Callable[[str], None] = lambda phase: None) -> None:
        """One update; `mark` is called with the name of every phase at its end."""
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.net(self.x), self.label)
        mark("forward")
        loss.backward()
        mark("backward")
        self.optimizer.step()
        mark("update")
