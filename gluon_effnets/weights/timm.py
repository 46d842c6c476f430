"""Names of timm (huggingface/pytorch-image-models): mobilenetv2_*, mobilenetv3_*_100, efficientnet_b0, tf_*."""

from __future__ import annotations

from typing import Any, Mapping

from ..models.mbnet import MBNet
from ..models.mobilenetv2 import MobileNetV2
from ..models.preprocessing import Preprocessing
from .mbnet import BASELINES, LITES, MOBILENET_V2, PLAIN, TENSORFLOW, Named, conv_bn, explain, layers, staged
from .source import BICUBIC, BILINEAR, Source

__all__ = ["TIMM", "TIMM_TF"]


def _layers(net: MBNet) -> Named:
    parts = layers(net)
    yield from conv_bn(parts.stem, "conv_stem", "bn1")
    stage = 0
    for stage, index, block in staged(net):
        at = f"blocks.{stage}.{index}."
        # BNs are counted from 1 within a block; the projection of a block without expansion is `conv_pw`.
        number = 1
        if block.expand is not None:
            yield from conv_bn(block.expand, at + "conv_pw", at + "bn1")
            number = 2
        yield from conv_bn(block.depthwise, at + "conv_dw", f"{at}bn{number}")
        if block.se is not None:
            yield at + "se.conv_reduce", block.se.reduce
            yield at + "se.conv_expand", block.se.expand
        project = "conv_pw" if block.expand is None else "conv_pwl"
        yield from conv_bn(block.project, at + project, f"{at}bn{number + 1}")
    if parts.hidden is not None:
        yield from conv_bn(parts.head, f"blocks.{stage + 1}.0.conv", f"blocks.{stage + 1}.0.bn1")
        yield "conv_head", parts.hidden
    else:
        yield from conv_bn(parts.head, "conv_head", "bn2")
    yield "classifier", parts.classifier


def _preprocessing(net: MBNet, definition: Mapping[str, Any]) -> Preprocessing:
    # tf_mobilenetv3_* and tf_efficientnet_lite* see images on the scale -1..1, but tf_efficientnet_b0 the usual ones.
    half = (127.5, 127.5, 127.5)
    side = net.padding_side
    if side is not None:  # an EfficientNet-Lite; timm rounds its crops to three digits
        return BICUBIC._replace(mean=half, std=half, crop=round(side / (side + 32), 3), image_size=side)
    scaled = definition == TENSORFLOW and net.arch.head_hidden
    return BILINEAR._replace(mean=half, std=half) if scaled else BICUBIC


TIMM = Source(
    name="timm",
    mark="conv_stem.weight",
    network=MBNet,
    layers=_layers,
    definition=lambda net: PLAIN,
    explain=explain,
    models=BASELINES + MOBILENET_V2,
    preprocessing=_preprocessing,
    is_of=lambda architecture: architecture.startswith(("mobilenetv", "efficientnet_")),
)
# timm's conversions of the TensorFlow weights (tf_*) have the same keys. There are none of MobileNetV2.
TIMM_TF = TIMM._replace(
    name="timm_tf",
    definition=lambda net: TENSORFLOW,
    models=(*BASELINES, *LITES),
    is_of=lambda architecture: architecture.startswith("tf_"),
    not_for=(MobileNetV2,),
)
