"""The structure of torchvision's ssdlite320_mobilenet_v3_large in PyTorch, with its keys, for measurements beside ours.

torchvision itself need not be there: networks are written from the tables of the papers, and the choice of detections
as torchvision's code has it, class by class, so that exporters make of both what they make of torchvision's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, List, Optional, Tuple

from .._requirements import optional_import

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = optional_import("torch", extra="torch", why="the same detector in PyTorch")
    nn = torch.nn

__all__ = ["AllBoxes", "Chosen", "SSDLite"]

# Kernel, hidden width, output, SE, h-swish, stride: MobileNetV3-Large with half a tail.
_ROWS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 80, True, True, 2),
    (5, 480, 80, True, True, 1),
    (5, 480, 80, True, True, 1),
)


def _unit(inputs: int, outputs: int, kernel=1, stride=1, groups=1, act: Optional[type] = nn.ReLU6) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=1e-3), *([act()] if act else []))


class _SE(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        # The nearest multiple of 8, but never below nine tenths.
        reduced = {72: 24}.get(channels, (channels // 4 + 4) // 8 * 8)
        self.fc1, self.fc2 = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)

    def forward(self, x):
        y = self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * nn.functional.hardsigmoid(y)


class _Block(nn.Module):
    def __init__(self, inputs: int, row):
        super().__init__()
        kernel, hidden, out, se, swish, stride = row
        act = nn.Hardswish if swish else nn.ReLU
        parts: List[nn.Module] = [_unit(inputs, hidden, act=act)] if hidden != inputs else []
        parts.append(_unit(hidden, hidden, kernel, stride, hidden, act))
        parts += [_SE(hidden)] if se else []
        self.block = nn.Sequential(*parts, _unit(hidden, out, act=None))
        self.adds = stride == 1 and inputs == out

    def forward(self, x):
        return x + self.block(x) if self.adds else self.block(x)


class _Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        blocks: List[nn.Module] = [_unit(3, 16, 3, 2, act=nn.Hardswish)]
        width = 16
        for row in _ROWS:
            blocks.append(_Block(width, row))
            width = row[2]
        blocks.append(_unit(width, 480, act=nn.Hardswish))
        cut = blocks[13].block
        self.features = nn.Sequential(nn.Sequential(*blocks[:13], cut[0]), nn.Sequential(cut[1:], *blocks[14:]))
        self.extra = nn.ModuleList()
        for inputs, out in ((480, 512), (512, 256), (256, 256), (256, 128)):
            half = out // 2
            self.extra.append(nn.Sequential(_unit(inputs, half), _unit(half, half, 3, 2, half), _unit(half, out)))


class _Head(nn.Module):
    def __init__(self, values: int):
        super().__init__()
        widths = (672, 480, 512, 256, 256, 128)
        self.module_list = nn.ModuleList(
            nn.Sequential(_unit(width, width, 3, groups=width), nn.Conv2d(width, 6 * values, 1)) for width in widths
        )
        self.values = values

    def forward(self, maps):
        found = []
        for head, x in zip(self.module_list, maps):
            y = head(x)
            n, _, height, width = y.shape
            found.append(y.view(n, 6, self.values, height, width).permute(0, 3, 4, 1, 2).reshape(n, -1, self.values))
        return torch.cat(found, 1)


class SSDLite(nn.Module):
    """Images -> logits (N, P, classes + 1), offsets (N, P, 4)."""

    def __init__(self, classes: int):
        super().__init__()
        self.backbone = _Backbone()
        self.head = nn.ModuleDict({"classification_head": _Head(classes + 1), "regression_head": _Head(4)})

    def forward(self, x) -> Tuple[torch.Tensor, torch.Tensor]:
        maps = []
        for layer in (*self.backbone.features, *self.backbone.extra):
            x = layer(x)
            maps.append(x)
        return self.head["classification_head"](maps), self.head["regression_head"](maps)


class AllBoxes(nn.Module):
    """Images -> boxes (N, P, 4) in pixels and scores (N, P, classes + 1), as torchvision decodes them.

    Args:
        net: From images to logits and offsets.
        anchors: (P, 4), center, width and height in shares of the image.
        size: Side of the images.
    """

    def __init__(self, net: nn.Module, anchors: torch.Tensor, size: int):
        super().__init__()
        self.net, self.size = net, size
        corners = torch.cat([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1) * size
        self.register_buffer("corners", corners)

    def forward(self, x) -> Tuple[torch.Tensor, torch.Tensor]:
        logits, offsets = self.net(x)
        sides = self.corners[:, 2:] - self.corners[:, :2]
        centers = self.corners[:, :2] + 0.5 * sides
        middle = offsets[..., :2] / 10 * sides + centers
        half = torch.exp((offsets[..., 2:] / 5).clamp(max=math.log(1000 / 16))) * sides * 0.5
        return torch.cat([middle - half, middle + half], -1).clamp(0, self.size), logits.softmax(-1)


class Chosen(nn.Module):
    """One image -> boxes (M, 4), scores (M,) and classes (M,) from 1, chosen as torchvision does.

    Args:
        every: From images to all boxes and scores.
        classes: Without the background.
    """

    def __init__(self, every: AllBoxes, classes: int):
        super().__init__()
        self.every, self.classes = every, classes

    def forward(self, x) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        [boxes], [scores] = self.every(x)
        found: List[Tuple[torch.Tensor, ...]] = []
        for label in range(1, self.classes + 1):
            score = scores[:, label]
            kept = score > 0.001
            score, box = score[kept], boxes[kept]
            # As many as there are, but 300 at most: torchvision's `_topk_min` for exporters.
            number = torch.minimum(torch.tensor(300), torch._shape_as_tensor(score)[0])
            score, places = score.topk(number)
            found.append((box[places], score, torch.full_like(score, label, dtype=torch.int64)))
        box, score, labels = (torch.cat(parts) for parts in zip(*found))
        # Boxes of different classes are moved apart.
        apart = labels.to(box) * (box.max() + 1)
        kept = torch.ops.torchvision.nms(box + apart[:, None], score, 0.55)[:300]
        return box[kept], score[kept], labels[kept]
