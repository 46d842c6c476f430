"""PyTorch modules of an outline, as `torch_outline.outline` writes it: the networks as their users write them.

Other interpreters load this file by its path; it imports nothing of the package, and nothing but PyTorch.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["build"]

Outline = Sequence[Any]


def build(outline: Outline) -> nn.Module:
    """The module of an outline, a list of a kind and its options, with PyTorch's own random weights."""
    kind, options = outline
    return _KINDS[kind](**options)


def _sequence(blocks: List[Outline]) -> nn.Sequential:
    return nn.Sequential(*map(build, blocks))


def _batch_norm(channels: int, epsilon: float, momentum: float, fixed: bool) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, epsilon, momentum)
    norm.weight.requires_grad = not fixed
    return norm


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


class _SqueezeExcite(nn.Module):
    def __init__(self, gate: List[Outline]):
        super().__init__()
        self.gate = _sequence(gate)

    def forward(self, x):
        return x * self.gate(x)


class _Residual(nn.Module):
    """A branch, and beside it the identity or only its first channels."""

    def __init__(self, branch: List[Outline], has_residual: bool, identity_channels: Optional[int] = None):
        super().__init__()
        self.branch, self.has_residual, self.identity_channels = _sequence(branch), has_residual, identity_channels

    def forward(self, x):
        y = self.branch(x)
        if not self.has_residual:
            return y
        kept = self.identity_channels
        if kept is None:
            return y + x
        return torch.cat((y[:, :kept] + x[:, :kept], y[:, kept:]), dim=1)


class _ChannelShuffle(nn.Module):
    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x):
        n, channels, height, width = x.shape
        x = x.view(n, self.groups, channels // self.groups, height, width)
        return x.transpose(1, 2).reshape(n, channels, height, width)


class _IdleBlock(nn.Module):
    def __init__(self, active: Outline, left_is_active: bool, sizes: Sequence[int], last: List[Outline]):
        super().__init__()
        self.active, self.last = build(active), _sequence(last)
        self.left_is_active, self.sizes = left_is_active, tuple(sizes)

    def forward(self, x):
        left, right = x.split(self.sizes, dim=1)
        parts = (self.active(left), right) if self.left_is_active else (left, self.active(right))
        return self.last(torch.cat(parts, dim=1))


class _ShuffleUnit(nn.Module):
    def __init__(self, branch: List[Outline], pool: List[Outline], last: List[Outline]):
        super().__init__()
        self.branch, self.last = _sequence(branch), _sequence(last)
        self.pool = _sequence(pool) if pool else None

    def forward(self, x):
        y = self.branch(x)
        if self.pool is not None:
            return self.last(torch.cat((self.pool(x), functional.relu(y)), dim=1))
        return functional.relu(self.last(y) + x)


class _ShuffleUnitV2(nn.Module):
    def __init__(self, first: List[Outline], proj: List[Outline], branch: List[Outline], last: List[Outline]):
        super().__init__()
        self.first, self.proj = _sequence(first), _sequence(proj) if proj else None
        self.branch, self.last = _sequence(branch), _sequence(last)

    def forward(self, x):
        if self.proj is not None:
            passing, active = self.proj(x), x
        else:
            passing, active = self.first(x).chunk(2, dim=1)
        return self.last(torch.cat((passing, self.branch(active)), dim=1))


class _Select(nn.Module):
    """Channels, or features, by their numbers."""

    index: torch.Tensor

    def __init__(self, index: Sequence[int]):
        super().__init__()
        self.register_buffer("index", torch.tensor(index), persistent=False)

    def forward(self, x):
        return x.index_select(1, self.index)


class _DenseLayer(nn.Module):
    """A condensed layer. `update`: rows that are added to the old channels `targets`.

    `authors`: the sum as CondenseNetV2's authors write it, a product with a matrix of zeros and ones.
    """

    targets: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, new: List[Outline], update: List[Outline], targets: List[int], channels: int, authors: bool):
        super().__init__()
        self.new, self.update = _sequence(new), _sequence(update) if update else None
        self.authors = authors
        self.register_buffer("targets", torch.tensor(targets, dtype=torch.int64), persistent=False)
        if authors:
            matrix = torch.zeros(channels, len(targets))
            matrix[self.targets, torch.arange(len(targets))] = 1
            self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, x):
        new = self.new(x)
        if self.update is not None:
            rows = self.update(new)
            if self.authors:
                x = x + functional.linear(rows.movedim(1, 3), self.matrix).movedim(3, 1)
            else:
                x = x.index_add(1, self.targets, rows)
        return torch.cat((x, new), 1)


_KINDS: Dict[str, Callable[..., nn.Module]] = {
    "average pooling": nn.AvgPool2d,
    "batch norm": _batch_norm,
    "channel shuffle": _ChannelShuffle,
    "convolution": nn.Conv2d,
    "dense layer": _DenseLayer,
    "drop connect": _DropConnect,
    "dropout": nn.Dropout,
    "flatten": nn.Flatten,
    "global pooling": lambda: nn.AdaptiveAvgPool2d(1),
    "hard sigmoid": nn.Hardsigmoid,
    "hard swish": lambda: nn.Hardswish(inplace=True),
    "idle block": _IdleBlock,
    "linear": nn.Linear,
    "max pooling": nn.MaxPool2d,
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "residual": _Residual,
    "select": _Select,
    "sequence": _sequence,
    "shuffle unit": _ShuffleUnit,
    "shuffle unit v2": _ShuffleUnitV2,
    "sigmoid": nn.Sigmoid,
    "squeeze-and-excitation": _SqueezeExcite,
    "swish": lambda: nn.SiLU(inplace=True),
    "zero padding": nn.ZeroPad2d,
}
