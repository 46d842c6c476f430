"""Pyramid, towers and postprocessing of torchvision's RetinaNet in PyTorch, with its keys: from the paper's words."""

from __future__ import annotations

import math
from typing import List, Sequence

import torch
from torch import nn
from torch.nn import functional
from torch_ssdlite import overlap


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


class Pyramid(nn.Module):
    def __init__(self, widths: Sequence[int], channels: int):
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(conv(width, channels, 1)) for width in widths)
        self.layer_blocks = nn.ModuleList(nn.Sequential(conv(channels, channels)) for _ in widths)
        self.extra_blocks = nn.ModuleDict(
            {"p6": conv(widths[-1], channels, stride=2), "p7": conv(channels, channels, stride=2)}
        )

    def forward(self, maps):
        above, levels = None, []
        for inner, layer, x in reversed(list(zip(self.inner_blocks, self.layer_blocks, maps))):
            y = inner(x)
            if above is not None:
                y = y + functional.interpolate(above, size=y.shape[-2:], mode="nearest")
            levels.insert(0, layer(y))
            above = y
        p6 = self.extra_blocks["p6"](maps[-1])
        return [*levels, p6, self.extra_blocks["p7"](functional.relu(p6))]


class Head(nn.Module):
    def __init__(self, name: str, channels: int, values: int):
        super().__init__()
        self.conv = nn.ModuleList(nn.Sequential(conv(channels, channels), nn.ReLU()) for _ in range(4))
        self.name, self.values = name, values
        setattr(self, name, conv(channels, 9 * values))

    def forward(self, levels):
        found = []
        for x in levels:
            for layer in self.conv:
                x = layer(x)
            y = getattr(self, self.name)(x)
            n, _, height, width = y.shape
            found.append(y.view(n, 9, self.values, height, width).permute(0, 3, 4, 1, 2).reshape(n, -1, self.values))
        return torch.cat(found, 1)


class RetinaNet(nn.Module):
    """Maps of strides 8, 16 and 32 -> logits (N, P, classes), offsets (N, P, 4)."""

    def __init__(self, widths: Sequence[int], channels: int, classes: int):
        super().__init__()
        self.backbone = nn.ModuleDict({"fpn": Pyramid(widths, channels)})
        heads = {
            "classification_head": Head("cls_logits", channels, classes),
            "regression_head": Head("bbox_reg", channels, 4),
        }
        self.head = nn.ModuleDict(heads)

    def forward(self, maps):
        levels = self.backbone["fpn"](maps)
        return self.head["classification_head"](levels), self.head["regression_head"](levels)


def detections(logits, offsets, anchors, sizes: Sequence[int], side: int, per_level: int = 1000):
    """torchvision's postprocessing of one image, in pixels: rows of score, class and box, by falling score.

    `anchors` : corners in pixels; `sizes` : how many of them are of each map.
    """
    rows = []
    begin = 0
    for size in sizes:
        part = slice(begin, begin + size)
        begin += size
        scores = torch.sigmoid(logits[part]).flatten()
        above = torch.nonzero(scores > 0.05).flatten()
        order = above[scores[above].topk(min(per_level, len(above))).indices]
        place, label = order // logits.shape[1], order % logits.shape[1]
        corners, deltas = anchors[part][place], offsets[part][place]
        sides, centers = corners[:, 2:] - corners[:, :2], (corners[:, 2:] + corners[:, :2]) / 2
        middle = deltas[:, :2] * sides + centers
        half = torch.exp(deltas[:, 2:].clamp(max=math.log(1000 / 16))) * sides / 2
        boxes = torch.cat([middle - half, middle + half], 1).clamp(0, side)
        rows += [(float(scores[one]), int(cls), box) for one, cls, box in zip(order, label, boxes)]
    kept: List[tuple] = []
    for score, label, box in sorted(rows, key=lambda row: -row[0]):
        if all(label != other[1] or overlap(box, other[2]) <= 0.5 for other in kept):
            kept.append((score, label, box))
    return [(score, label, box.tolist()) for score, label, box in kept][:100]
