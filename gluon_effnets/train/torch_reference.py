"""MobileNetV3, EfficientNet-B0 and IdleBlock networks in PyTorch, from the same tables, to measure beside ours."""

from __future__ import annotations

from typing import Callable, Optional

from .._requirements import optional_import
from ..models.mbnet import Architecture, MBNet, Row

__all__ = ["TorchMBNet", "TorchTraining", "torch_like"]

torch = optional_import("torch", extra="torch", why="the same network in PyTorch")
nn = torch.nn

_ACTIVATIONS = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_swish": lambda: nn.Hardswish(inplace=True),
    "swish": lambda: nn.SiLU(inplace=True),
}


def _conv_bn(
    in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, act: Optional[str] = None
) -> nn.Sequential:
    unit = nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    )
    if act:
        unit.append(_ACTIVATIONS[act]())
    return unit


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduced: int, act: str, gate: str):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, reduced, 1),
            _ACTIVATIONS[act](),
            nn.Conv2d(reduced, channels, 1),
            _ACTIVATIONS[gate](),
        )

    def forward(self, x):
        return x * self.gate(x)


class _MBBlock(nn.Module):
    def __init__(self, arch: Architecture, row: Row, in_channels: int, channels: int, residual: bool = True):
        super().__init__()
        units = [_conv_bn(in_channels, row.hidden, 1, act=row.act)] if row.expand else []
        groups = row.hidden if row.expand else in_channels
        width = row.hidden if row.expand else in_channels
        units.append(_conv_bn(width, row.hidden, row.kernel, row.stride, groups, row.act))
        if row.se:
            units.append(_SqueezeExcite(row.hidden, row.se, arch.se_act or row.act, arch.se_gate))
        units.append(_conv_bn(row.hidden, channels, 1))
        self.branch = nn.Sequential(*units)
        self.has_residual = residual and row.stride == 1 and in_channels == channels

    def forward(self, x):
        return self.branch(x) + x if self.has_residual else self.branch(x)


class _IdleBlock(nn.Module):
    def __init__(self, arch: Architecture, row: Row, channels: int):
        super().__init__()
        num_idle = int(channels * arch.idle_fraction)
        num_active = channels - num_idle
        self.active = _MBBlock(arch, row, num_active, num_active, arch.idle_residual)
        self.left_is_active = row.idle == "left"
        self.sizes = (num_active, num_idle) if self.left_is_active else (num_idle, num_active)

    def forward(self, x):
        left, right = x.split(self.sizes, dim=1)
        return torch.cat((self.active(left), right) if self.left_is_active else (left, self.active(right)), dim=1)


class TorchMBNet(nn.Sequential):
    """(N, in_channels, H, W) -> logits (N, classes). Layers are made in the order of ours, so weights map one to one.

    Raises ValueError for a table whose IdleBlocks shuffle.
    """

    def __init__(
        self, arch: Architecture, classes: int = 1000, in_channels: int = 3, stem_stride: int = 2, dropout: float = 0.2
    ):
        if arch.shuffle:
            raise ValueError("IdleBlocks that shuffle (an ablation) have no counterpart in PyTorch here")
        layers = [_conv_bn(in_channels, arch.stem, 3, stem_stride, act=arch.act)]
        for width, row in zip(arch.inputs(), arch.rows):
            layers.append(_IdleBlock(arch, row, width) if row.idle else _MBBlock(arch, row, width, row.out))
        layers += [_conv_bn(arch.rows[-1].out, arch.head, 1, act=arch.act), nn.AdaptiveAvgPool2d(1)]
        if arch.head_hidden:
            layers += [nn.Conv2d(arch.head, arch.head_hidden, 1), _ACTIVATIONS[arch.act]()]
        layers += [nn.Flatten(), nn.Dropout(dropout), nn.Linear(arch.head_hidden or arch.head, classes)]
        super().__init__(*layers)


def torch_like(net: MBNet) -> TorchMBNet:
    """The counterpart of one of our networks, its weights drawn anew; 'same' padding becomes symmetric (equal cost)."""
    return TorchMBNet(net.arch, net.num_classes, net.in_channels, net.stage_info[0].stride)


class TorchTraining:
    """Steps of Nesterov SGD on one random batch held in memory: what the training loop of PyTorch's examples does."""

    def __init__(self, net: MBNet, batch_size: int, image_size: int, channels_last: bool = False):
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
