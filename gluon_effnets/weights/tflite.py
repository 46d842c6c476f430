"""Layers of TensorFlow Lite files of MobileNetV1, MobileNetV2 and EfficientNet-Lite.

The key of a layer says what it does, '03.conv1x1.relu6', in the file as in our network: another stride, activation or
order is found as keys that do not fit.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping

from mxnet.gluon import nn
from mxnet.gluon.block import Block

from ..models import ClassificationNet
from ..models.blocknet import BlockNet
from ..models.mbnet import MBNet
from ..models.preprocessing import Preprocessing
from ..nn import ConvBN, ReLU6
from .mbnet import LITES, MOBILENET_V2, TENSORFLOW, Models, Named, lite_preprocessing
from .source import BILINEAR, Source, explain_ends
from .tflite_file import BN_EPSILON, VERSION_KEY

__all__ = ["TFLITE"]

_V1 = {"act": "relu6"}
_MOBILENET_V1: Models = tuple((f"mobilenet_v1_{width}", _V1) for width in ("x1_0", "x0_75", "x0_5", "x0_25"))
_RANGE = (127.5, 127.5, 127.5)  # -1..1, where a file in float does not tell


def _layers(net: ClassificationNet) -> Named:
    for number, unit in enumerate(_units(net.features)):
        name = f"{number:02d}.{_kind(unit)}"
        yield name, unit.conv
        yield f"{name}.bn", unit.bn
    yield "classifier", net.output


def _units(block: Block) -> Iterator[ConvBN]:
    """The convolutions within a block, in order."""
    if isinstance(block, ConvBN):
        yield block
    else:
        for child in block._children.values():
            yield from _units(child)


def _kind(unit: ConvBN) -> str:
    """What a convolution does, in the words of `read_tflite_file`."""
    settings = unit.conv._kwargs
    side, groups = settings["kernel"][0], settings["num_group"]
    name = "conv" if groups == 1 else "depthwise" if groups == settings["num_filter"] else f"conv of {groups} groups "
    stride = f"s{unit.stride}" if unit.stride > 1 else ""
    if unit.act is None:
        activation = "linear"
    elif isinstance(unit.act, nn.Activation):
        activation = unit.act._act_type
    else:
        activation = "relu6" if isinstance(unit.act, ReLU6) else type(unit.act).__name__
    return f"{name}{side}x{side}{stride}.{activation}"


def _preprocessing(net: ClassificationNet, definition: Mapping[str, Any]) -> Preprocessing:
    side = getattr(net, "padding_side", None)
    return BILINEAR._replace(mean=_RANGE, std=_RANGE) if side is None else lite_preprocessing(side)


def _completed(preprocessing: Preprocessing) -> Preprocessing:
    side = preprocessing.image_size
    if preprocessing.crop_first or side is None:
        return preprocessing
    # TensorFlow's slim shows the central 87.5 % distorted to a square, which costs 2 to 5 points of accuracy.
    return preprocessing._replace(crop=side / int(side / 0.875))


def _builds(model: str) -> Dict[str, Any]:
    return dict(_MOBILENET_V1).get(model, {})


TFLITE = Source(
    name="tflite",
    mark=VERSION_KEY,
    network=(MBNet, BlockNet),
    layers=_layers,
    definition=lambda net: {**TENSORFLOW, "bn_epsilon": BN_EPSILON},
    explain=explain_ends,
    models=(*_MOBILENET_V1, *MOBILENET_V2, *LITES),
    ignores=(VERSION_KEY,),
    preprocessing=_preprocessing,
    completed=_completed,
    builds=_builds,
)
