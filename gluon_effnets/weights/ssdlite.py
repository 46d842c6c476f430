"""Names of SSDLite detectors: of the repository that MobileNeXt's authors name, and of torchvision."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
from mxnet.gluon import Parameter
from mxnet.gluon.block import HybridBlock

from ..detection import get_detector
from ..detection.ssdlite import BoxHead, SSDLite
from ..detection.ssdlite320 import ThirdPartySSDLite, TorchvisionSSDLite
from ..nn import ConvBN, ConvChain, IdleBlock, IdleRun
from .mbnet import PLAIN, Named, conv_bn
from .mobilenext import name_units_flat
from .source import Source, Translation
from .torchvision import name_block, name_block_v2, name_units

__all__ = ["THIRD_PARTY_SSDLITE", "TORCHVISION_SSDLITE"]


def _blocks(net: SSDLite) -> List[HybridBlock]:
    """The stem, the blocks and the last convolution of the network below; of IdleBlocks their active part."""
    return [found for stage in net.predictor.backbone.stages for block in stage for found in _active(block)]


def _active(block: HybridBlock) -> Iterator[HybridBlock]:
    if isinstance(block, IdleRun):
        yield from (part for inner in block for part in _active(inner))
    else:
        yield block.active if isinstance(block, IdleBlock) else block


def _heads(net: SSDLite) -> Iterator[Tuple[str, int, BoxHead]]:
    for kind, heads in (("cls", net.predictor.class_heads), ("reg", net.predictor.box_heads)):
        yield from ((kind, level, head) for level, head in enumerate(heads))


def _third_party(net: SSDLite) -> Named:
    blocks = _blocks(net)
    for number, block in enumerate(blocks):
        path = f"backbone.features.{number}"
        if isinstance(block, ConvBN):  # the stem and the last convolution
            yield from conv_bn(block, f"{path}.0", f"{path}.1")
        elif isinstance(block, ConvChain):
            yield from name_units_flat(block, f"{path}.conv")
        else:
            yield from name_block_v2(path, block)
    for number, block in enumerate(net.predictor.extras):
        path = f"backbone.extras.{number}"
        yield from name_units_flat(block, path) if isinstance(block, ConvChain) else name_block_v2(path, block)
    for kind, level, head in _heads(net):
        path = f"box_head.predictor.{kind}_headers.{level}"
        if head.depthwise is None:
            yield path, head.output
        else:
            yield from conv_bn(head.depthwise, f"{path}.conv.0", f"{path}.conv.1")
            yield f"{path}.conv.3", head.output


def _translations(net: SSDLite) -> Dict[str, Translation]:
    """What the heads of classes are, of the form that learns by focal loss: there the background's logits come last."""
    if net.definition()["form"] != "coco":
        return {}
    values = net.num_classes + 1
    found = {}
    for kind, level, head in _heads(net):
        path = f"box_head.predictor.{kind}_headers.{level}" + (".conv.3" if head.depthwise is not None else "")
        for tensor, param in (("weight", head.output.weight), ("bias", head.output.bias)) if kind == "cls" else ():
            found[f"{path}.{tensor}"] = _background_first(f"{path}.{tensor}", param.shape, values)
    return found


def _background_first(key: str, shape: Tuple[int, ...], values: int) -> Translation:
    def rolled(array: np.ndarray, places: int) -> np.ndarray:
        return np.roll(array.reshape(-1, values, *shape[1:]), places, axis=1).reshape(shape)

    return Translation(shape, lambda numbers: rolled(numbers[key], 1), lambda array: rolled(array, -1))


def _torchvision(net: SSDLite) -> Named:
    blocks = _blocks(net)
    # The network is cut within its last block with a stride, behind the expansion.
    cut = max(number for number, block in enumerate(blocks) if _stride(block) > 1)
    yield from conv_bn(blocks[0], "backbone.features.0.0.0", "backbone.features.0.0.1")
    for number, block in enumerate(blocks[1:-1], 1):
        if number == cut:
            yield from conv_bn(block.expand, f"backbone.features.0.{cut}.0", f"backbone.features.0.{cut}.1")
            yield from list(name_units(block, "backbone.features.1.0"))[2:]
        elif number < cut:
            yield from name_block(f"backbone.features.0.{number}", block)
        else:
            yield from name_block(f"backbone.features.1.{number - cut}", block)
    last = f"backbone.features.1.{len(blocks) - 1 - cut}"
    yield from conv_bn(blocks[-1], f"{last}.0", f"{last}.1")
    for number, block in enumerate(net.predictor.extras):
        for position, unit in enumerate(block.units):
            yield from conv_bn(unit, f"backbone.extra.{number}.{position}.0", f"backbone.extra.{number}.{position}.1")
    for kind, level, head in _heads(net):
        path = f"head.{'classification' if kind == 'cls' else 'regression'}_head.module_list.{level}"
        assert head.depthwise is not None
        yield from conv_bn(head.depthwise, f"{path}.0.0", f"{path}.0.1")
        yield f"{path}.1", head.output


def _stride(block: HybridBlock) -> int:
    return block.depthwise.stride if hasattr(block, "depthwise") else 1


def _explain(net: SSDLite, wrong: Mapping[Parameter, Tuple[int, ...]]) -> Optional[Dict[str, Any]]:
    """The classes, and the form, that would give the shapes of the heads."""
    levels = net.form.levels
    heads = {head.output.weight: (kind, level) for kind, level, head in _heads(net)}
    heads.update({head.output.bias: (kind, level) for kind, level, head in _heads(net)})
    values = {"cls": net.num_classes + 1, "reg": 4}
    boxes = {level: numbers.boxes_per_position for level, numbers in enumerate(levels)}
    for param, shape in wrong.items():
        if param not in heads or shape[1:] != param.shape[1:][: len(shape) - 1]:
            return None
        kind, level = heads[param]
        if kind == "reg":
            boxes[level] = shape[0] // 4
        elif level == 0:
            values["cls"] = shape[0] // boxes[0]
    official = {param: wrong.get(param, param.shape)[0] for param in heads}
    options: Dict[str, Any] = {}
    if values["cls"] != net.num_classes + 1:
        options["classes"] = values["cls"] - 1
    forms = {6: "voc", 4: "coco"}
    last = len(levels) - 1
    if boxes[last] != levels[last].boxes_per_position and boxes[last] in forms:
        options["form"] = forms[boxes[last]]
    fits = all(official[param] == values[kind] * boxes[level] for param, (kind, level) in heads.items())
    return options if fits and (options or not wrong) else None


THIRD_PARTY_SSDLITE = Source(
    name="ssdlite_pytorch_mobilenext",
    mark="backbone.features.0.0.weight",
    network=ThirdPartySSDLite,
    layers=_third_party,
    definition=lambda net: PLAIN,
    explain=_explain,
    translations=_translations,
    models=(("ssdlite320_mobilenext_x1_0", {}), ("ssdlite320_mobilenet_v2_x1_0", {})),
    make=get_detector,
    preprocessing=lambda net, definition: net.preprocessing,
)
TORCHVISION_SSDLITE = Source(
    name="torchvision_ssdlite",
    mark="backbone.features.0.0.0.weight",
    network=TorchvisionSSDLite,
    layers=_torchvision,
    definition=lambda net: {**PLAIN, "bn_epsilon": 1e-3},
    explain=_explain,
    models=(
        ("ssdlite320_mobilenet_v3_large", {}),
        ("ssdlite320_mobilenet_v3_large", {"reduced_tail": False}),
    ),
    make=get_detector,
    preprocessing=lambda net, definition: net.preprocessing,
)
