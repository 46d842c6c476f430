"""Names of lukemelas/EfficientNet-PyTorch, and of the EfficientNet-Lites in its form: TensorFlow's weights."""

from __future__ import annotations

from typing import Any, Mapping

from ..models.mbnet import MBNet
from ..models.preprocessing import Preprocessing
from .mbnet import LITES, TENSORFLOW, Named, conv_bn, explain, layers, lite_preprocessing
from .source import BICUBIC, Source

__all__ = ["LUKEMELAS"]


def _layers(net: MBNet) -> Named:
    parts = layers(net)
    yield from conv_bn(parts.stem, "_conv_stem", "_bn0")
    for number, block in enumerate(parts.blocks):
        at = f"_blocks.{number}."
        if block.expand is not None:
            yield from conv_bn(block.expand, at + "_expand_conv", at + "_bn0")
        yield from conv_bn(block.depthwise, at + "_depthwise_conv", at + "_bn1")
        if block.se is not None:
            yield at + "_se_reduce", block.se.reduce
            yield at + "_se_expand", block.se.expand
        yield from conv_bn(block.project, at + "_project_conv", at + "_bn2")
    yield from conv_bn(parts.head, "_conv_head", "_bn1")
    yield "_fc", parts.classifier


def _preprocessing(net: MBNet, definition: Mapping[str, Any]) -> Preprocessing:
    if net.padding_side is not None:
        return lite_preprocessing(net.padding_side)
    # The repository's evaluation resizes the shorter side to the image's own size.
    return BICUBIC._replace(crop=1.0)


LUKEMELAS = Source(
    name="lukemelas",
    mark="_conv_stem.weight",
    network=MBNet,
    layers=_layers,
    definition=lambda net: TENSORFLOW,
    explain=explain,
    models=(("efficientnet_b0", {}), *LITES),
    preprocessing=_preprocessing,
)
