"""The structure of lzx1413/PytorchSSD's FSSD_mobile for 300 pixels in PyTorch, with its keys: from its table."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import nn
from torch.nn import functional

# Name, output and stride of the units.
UNITS = (
    ("dw2_1", 64, 1),
    ("dw2_2", 128, 2),
    ("dw3_1", 128, 1),
    ("dw3_2", 256, 2),
    ("dw4_1", 256, 1),
    ("dw4_2", 512, 2),
    *((f"dw5_{number}", 512, 1) for number in range(1, 6)),
    ("dw5_6", 1024, 2),
    ("dw6", 1024, 1),
)
PYRAMID = ((512, 1, 1), (512, 2, 1), (256, 2, 1), (256, 2, 1), (128, 1, 0), (128, 1, 0))


class Block(nn.Module):
    def __init__(self, inputs: int, out: int, stride: int, padding: int = 1):
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, padding, groups=inputs, bias=False)
        self.bn_dw = nn.BatchNorm2d(inputs)
        self.conv_sep, self.bn_sep = nn.Conv2d(inputs, out, 1, bias=False), nn.BatchNorm2d(out)

    def forward(self, x):
        return torch.relu(self.bn_sep(self.conv_sep(torch.relu(self.bn_dw(self.conv_dw(x))))))


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)
        width = 32
        for name, out, stride in UNITS:
            setattr(self, name, Block(width, out, stride))
            width = out
        self.fc = nn.Linear(width, 1000)

    def forward(self, x):
        x, maps = torch.relu(self.bn1(self.conv1(x))), []
        for name, *_ in UNITS:
            x = getattr(self, name)(x)
            if name in ("dw4_1", "dw5_5", "dw6"):
                maps.append(x)
        return maps


class Transform(nn.Module):
    def __init__(self, inputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, 256, 1)

    def forward(self, x):
        return torch.relu(self.conv(x))


class FSSD(nn.Module):
    """Images of 300 pixels -> logits (N, P, classes + 1), offsets (N, P, 4)."""

    def __init__(self, classes: int):
        super().__init__()
        self.base, self.fea_bn = MobileNet(), nn.BatchNorm2d(768)
        self.ft_module = nn.ModuleList(Transform(width) for width in (256, 512, 1024))
        self.pyramid_ext, width = nn.ModuleList(), 768
        for out, stride, padding in PYRAMID:
            self.pyramid_ext.append(Block(width, out, stride, padding))
            width = out
        boxes = list(zip((out for out, *_ in PYRAMID), (6, 6, 6, 6, 4, 4)))
        self.loc = nn.ModuleList(nn.Conv2d(out, number * 4, 3, padding=1) for out, number in boxes)
        self.conf = nn.ModuleList(nn.Conv2d(out, number * (classes + 1), 3, padding=1) for out, number in boxes)
        self.classes = classes

    def forward(self, x) -> Tuple[torch.Tensor, torch.Tensor]:
        maps = [transform(y) for transform, y in zip(self.ft_module, self.base(x))]
        large = [functional.interpolate(y, size=(38, 38), mode="bilinear", align_corners=True) for y in maps[1:]]
        y, levels = self.fea_bn(torch.cat([maps[0], *large], 1)), []
        for block in self.pyramid_ext:
            y = block(y)
            levels.append(y)

        def joined(heads, values: int):
            found = [head(y).permute(0, 2, 3, 1).reshape(len(x), -1, values) for head, y in zip(heads, levels)]
            return torch.cat(found, 1)

        return joined(self.conf, self.classes + 1), joined(self.loc, 4)
