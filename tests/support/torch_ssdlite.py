"""Structures of SSDLite detectors in PyTorch, with their repositories' keys, and torchvision's choice by loops."""

from __future__ import annotations

import math
from typing import List

import torch
from torch import nn

from gluon_effnets.benchmarks.torchvision_ssdlite import SSDLite

__all__ = ["SSDLite", "ThirdPartySSDLite", "detections", "overlap"]


def detections(logits, offsets, anchors, classes: int):
    """torchvision's postprocessing of one image, in pixels: lists of boxes, scores, classes, by falling score."""
    corners = torch.cat([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1) * 320
    sides, centers = corners[:, 2:] - corners[:, :2], (corners[:, 2:] + corners[:, :2]) / 2
    middle = offsets[:, :2] / 10 * sides + centers
    half = torch.exp((offsets[:, 2:] / 5).clamp(max=math.log(1000 / 16))) * sides / 2
    boxes = torch.cat([middle - half, middle + half], 1).clamp(0, 320)
    scores = logits.softmax(-1)
    found = []
    for label in range(1, classes + 1):
        above = torch.nonzero(scores[:, label] > 0.001).flatten()
        order = above[scores[above, label].argsort(descending=True)][:300].tolist()
        kept: List[int] = []
        for one in order:
            if all(overlap(boxes[one], boxes[other]) <= 0.55 for other in kept):
                kept.append(one)
        found += [(float(scores[one, label]), label - 1, boxes[one].tolist()) for one in kept]
    return sorted(found, key=lambda row: -row[0])[:300]


def overlap(a, b) -> float:
    """Intersection over union of two boxes; 0 for boxes without area."""
    left, right = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    common = float((right - left).clamp(min=0).prod())
    together = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - common
    return common / together if together else 0.0


class InvertedResidual(nn.Module):
    """A block of MobileNetV2, named as in torchvision's and in lufficc/SSD."""

    def __init__(self, inputs: int, hidden: int, out: int, stride: int):
        super().__init__()
        parts = [plain(inputs, hidden)] if hidden != inputs else []
        parts += [plain(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, out, 1, bias=False)]
        self.conv, self.adds = nn.Sequential(*parts, nn.BatchNorm2d(out)), stride == 1 and inputs == out

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


def plain(inputs: int, outputs: int, kernel=1, stride=1, groups=1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class MobileNetV2Maps(nn.Module):
    """Block 13 and the last 1x1 convolution, then four extra blocks."""

    def __init__(self):
        super().__init__()
        blocks: List[nn.Module] = [plain(3, 32, 3, 2)]
        width = 32
        for ratio, out, repeats, stride in (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ):
            for repeat in range(repeats):
                blocks.append(InvertedResidual(width, ratio * width, out, stride if repeat == 0 else 1))
                width = out
        self.features = nn.Sequential(*blocks, plain(320, 1280))
        sizes = ((1280, 256, 512), (512, 256, 256), (256, 128, 256), (256, 128, 64))
        self.extras = nn.ModuleList(InvertedResidual(inputs, hidden, out, 2) for inputs, hidden, out in sizes)

    def forward(self, x):
        maps = []
        for number, layer in enumerate((*self.features, *self.extras)):
            x = layer(x)
            if number in (13, 18) or number > 18:
                maps.append(x)
        return maps


class SeparableHead(nn.Module):
    def __init__(self, width: int, out: int):
        super().__init__()
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.conv = nn.Sequential(depthwise, nn.BatchNorm2d(width), nn.ReLU6(), nn.Conv2d(width, out, 1))

    def forward(self, x):
        return self.conv(x)


class ThirdPartySSDLite(nn.Module):
    """The third-party detector on MobileNetV2, with 6 boxes everywhere."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        self.backbone, predictor = MobileNetV2Maps(), nn.Module()
        for name, values in (("cls_headers", classes + 1), ("reg_headers", 4)):
            heads = [SeparableHead(width, 6 * values) for width in (96, 1280, 512, 256, 256)]
            setattr(predictor, name, nn.ModuleList([*heads, nn.Conv2d(64, 6 * values, 1)]))
        self.box_head = nn.ModuleDict({"predictor": predictor})

    def forward(self, x):
        maps, predictor = self.backbone(x), self.box_head["predictor"]

        def joined(heads, values: int):
            found = [head(y).permute(0, 2, 3, 1).reshape(len(x), -1, values) for head, y in zip(heads, maps)]
            return torch.cat(found, 1)

        return joined(predictor.cls_headers, self.classes + 1), joined(predictor.reg_headers, 4)
