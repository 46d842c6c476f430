"""The condensed CondenseNet in PyTorch, for measurements beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict

import numpy as np

from .._requirements import optional_import
from ..models.condensenet import CondenseNet
from ..nn import CondensedLinear, DenseLayer, HardSwish

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.nn import functional
else:
    torch = optional_import("torch", extra="torch", why="the same network in PyTorch")
    nn, functional = torch.nn, torch.nn.functional

__all__ = ["torch_variants"]


def torch_variants(net: CondenseNet, x: np.ndarray) -> Dict[str, Callable[[], np.ndarray]]:
    """Calls that give the logits of a condensed network for `x`, in eval mode and without gradients."""
    image, calls = torch.from_numpy(x), {}
    for variant, matrix in (("PyTorch, authors' index layer", True), ("PyTorch, scatter-add", False)):
        twin = _Net(net, matrix).eval()
        calls[variant] = torch.no_grad()(lambda twin=twin: twin(image).numpy())
    return calls


def _tensor(param) -> torch.Tensor:
    return torch.from_numpy(param.data().asnumpy().copy())


def _bn(layer) -> nn.Module:
    bn = nn.BatchNorm2d(layer.gamma.shape[0], eps=layer._kwargs["eps"])
    names = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
    bn.load_state_dict({key: _tensor(getattr(layer, name)) for key, name in names.items()}, strict=False)
    if layer._kwargs["fix_gamma"]:  # then MXNet counts gamma as 1, whatever is stored
        bn.weight.data.fill_(1)
    return bn


def _conv(layer) -> nn.Module:
    out, per_group, kernel, _ = layer.weight.shape
    groups, stride = layer._kwargs["num_group"], layer._kwargs["stride"]
    conv = nn.Conv2d(per_group * groups, out, kernel, stride, kernel // 2, groups=groups, bias=layer.bias is not None)
    conv.weight.data = _tensor(layer.weight)
    if layer.bias is not None:
        conv.bias.data = _tensor(layer.bias)
    return conv


def _linear(layer) -> nn.Module:
    linear = nn.Linear(*reversed(layer.weight.shape))
    linear.weight.data, linear.bias.data = _tensor(layer.weight), _tensor(layer.bias)
    return linear


def _act(layer) -> nn.Module:
    return nn.Hardswish() if isinstance(layer, HardSwish) else nn.ReLU()


def _shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class _SE(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.reduce, self.expand = _conv(layer.reduce), _conv(layer.expand)

    def forward(self, x):
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class _Layer(nn.Module):
    def __init__(self, layer: DenseLayer, matrix: bool):
        super().__init__()
        reduce, update = layer.reduce, layer.update
        self.index = _tensor(reduce.index).long()
        self.select = nn.Sequential(_bn(reduce.bn), _act(layer.act), _conv(reduce.conv))
        self.groups = reduce.conv._kwargs["num_group"]
        self.spatial = nn.Sequential(_bn(layer.bn), _act(layer.act), _conv(layer.conv))
        self.se = _SE(layer.se) if layer.se is not None else nn.Identity()
        self.update = None
        if update is not None:
            self.activate, self.update = nn.Sequential(_bn(update.bn), _act(layer.act)), _conv(update.conv)
            rows = update.as_matrix()
            self.matrix = torch.from_numpy(rows) if matrix else None
            self.target = torch.from_numpy(rows.argmax(axis=0))
            self.update_groups = update.conv._kwargs["num_group"]

    def forward(self, x):
        new = self.se(self.spatial(_shuffle(self.select(x.index_select(1, self.index)), self.groups)))
        if self.update is not None:
            shuffled = _shuffle(self.activate(new), new.shape[1] // self.update_groups)
            rows = self.update(shuffled)
            if self.matrix is None:
                x = x.index_add(1, self.target, rows)
            else:
                x = x + functional.linear(rows.movedim(1, 3), self.matrix).movedim(3, 1)
        return torch.cat((x, new), 1)


class _Net(nn.Module):
    def __init__(self, net: CondenseNet, matrix: bool):
        super().__init__()
        layers = []
        *stages, head = net.features._children.values()
        for stage in stages:
            for block in stage._children.values():
                if isinstance(block, DenseLayer):
                    layers.append(_Layer(block, matrix))
                else:
                    layers.append(_conv(block) if hasattr(block, "weight") else nn.AvgPool2d(2))
        layers += [_bn(head[0]), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        if net.plan.last_se:
            layers.append(_SE(head[3]))
        layers.append(nn.Flatten())
        if net.plan.head_hidden:
            layers += [_linear(head[len(head) - 2]), nn.Hardswish()]
        assert not isinstance(net.output, CondensedLinear)
        self.layers = nn.Sequential(*layers, _linear(net.output))

    def forward(self, x):
        return self.layers(x)
