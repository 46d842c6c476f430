"""Names of torchvision (pytorch/vision): mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small and efficientnet_b0."""

from __future__ import annotations

from typing import Any, Mapping

from ..models.mbnet import MBNet
from ..models.mobilenetv2 import MobileNetV2
from ..models.preprocessing import Preprocessing
from ..nn import MBBlock
from .mbnet import BASELINES, MOBILENET_V2, PLAIN, Named, conv_bn, explain, layers, staged
from .source import BICUBIC, BILINEAR, Source

__all__ = ["TORCHVISION", "name_block", "name_block_v2", "name_units"]


def _layers(net: MBNet) -> Named:
    parts = layers(net)
    yield from conv_bn(parts.stem, "features.0.0", "features.0.1")
    if parts.hidden is not None or isinstance(net, MobileNetV2):
        # MobileNetV2 and V3 number their blocks through, EfficientNet by stage and index.
        paths = [f"features.{number}" for number in range(1, len(parts.blocks) + 2)]
    else:
        stages = [(stage, index) for stage, index, _ in staged(net)]
        paths = [f"features.{stage + 1}.{index}" for stage, index in stages]
        paths.append(f"features.{stages[-1][0] + 2}")
    for path, block in zip(paths, parts.blocks):
        yield from (name_block_v2 if isinstance(net, MobileNetV2) else name_block)(path, block)
    yield from conv_bn(parts.head, paths[-1] + ".0", paths[-1] + ".1")
    if parts.hidden is not None:
        yield "classifier.0", parts.hidden
    yield "classifier.1" if parts.hidden is None else "classifier.3", parts.classifier


def name_block_v2(path: str, block: MBBlock) -> Named:
    """Yield the layers of a block of MobileNetV2 under their official names, `<path>.conv.<position>`."""
    units = [unit for unit in (block.expand, block.depthwise) if unit is not None]
    for position, unit in enumerate(units):
        yield from conv_bn(unit, f"{path}.conv.{position}.0", f"{path}.conv.{position}.1")
    yield from conv_bn(block.project, f"{path}.conv.{len(units)}", f"{path}.conv.{len(units) + 1}")


def name_block(path: str, block: MBBlock) -> Named:
    """Yield the layers of a block of MobileNetV3 or EfficientNet, `<path>.block.<position>`."""
    yield from name_units(block, f"{path}.block")


def name_units(block: MBBlock, path: str) -> Named:
    """Yield the layers of a block as `<path>.<position>`: expansion, depthwise convolution, SE, projection."""
    position = 0
    for unit in (block.expand, block.depthwise, block.se, block.project):
        if unit is None:
            continue
        at = f"{path}.{position}."
        if unit is block.se:
            yield at + "fc1", unit.reduce
            yield at + "fc2", unit.expand
        else:
            yield from conv_bn(unit, at + "0", at + "1")
        position += 1


def _definition(net: MBNet):
    # torchvision took epsilon 1e-3 over from TensorFlow for MobileNetV3 alone.
    return {**PLAIN, "bn_epsilon": 1e-3} if net.arch.head_hidden else PLAIN


def _preprocessing(net: MBNet, definition: Mapping[str, Any]) -> Preprocessing:
    # Of the first weights (IMAGENET1K_V1); the second ones have the same keys, and resize to 232 pixels.
    return BILINEAR if net.arch.head_hidden or isinstance(net, MobileNetV2) else BICUBIC


TORCHVISION = Source(
    name="torchvision",
    mark="features.0.0.weight",
    network=MBNet,
    layers=_layers,
    definition=_definition,
    explain=explain,
    models=BASELINES + MOBILENET_V2,
    matrices=("classifier.0.weight",),
    preprocessing=_preprocessing,
)
