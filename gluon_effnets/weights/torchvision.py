"""Names of torchvision (pytorch/vision): mobilenet_v3_large, mobilenet_v3_small and efficientnet_b0."""

from __future__ import annotations

from ..models.mbnet import MBNet
from ..nn import MBBlock
from .mbnet import BASELINES, PLAIN, Named, conv_bn, explain, layers, staged
from .source import Source

__all__ = ["TORCHVISION"]


def _layers(net: MBNet) -> Named:
    parts = layers(net)
    yield from conv_bn(parts.stem, "features.0.0", "features.0.1")
    if parts.hidden is not None:
        # MobileNetV3 numbers its blocks through, EfficientNet by stage and index.
        paths = [f"features.{number}" for number in range(1, len(parts.blocks) + 2)]
        classifier = ("classifier.0", parts.hidden), ("classifier.3", parts.classifier)
    else:
        stages = [(stage, index) for stage, index, _ in staged(net)]
        paths = [f"features.{stage + 1}.{index}" for stage, index in stages]
        paths.append(f"features.{stages[-1][0] + 2}")
        classifier = (("classifier.1", parts.classifier),)
    for path, block in zip(paths, parts.blocks):
        yield from _block(path, block)
    yield from conv_bn(parts.head, paths[-1] + ".0", paths[-1] + ".1")
    yield from classifier


def _block(path: str, block: MBBlock) -> Named:
    position = 0
    for unit in (block.expand, block.depthwise, block.se, block.project):
        if unit is None:
            continue
        at = f"{path}.block.{position}."
        if unit is block.se:
            yield at + "fc1", unit.reduce
            yield at + "fc2", unit.expand
        else:
            yield from conv_bn(unit, at + "0", at + "1")
        position += 1


def _definitions(net: MBNet):
    # torchvision took epsilon 1e-3 over from TensorFlow for MobileNetV3 alone.
    return ({**PLAIN, "bn_epsilon": 1e-3} if net.arch.head_hidden else PLAIN,)


TORCHVISION = Source(
    name="torchvision",
    mark="features.0.0.weight",
    network=MBNet,
    layers=_layers,
    definitions=_definitions,
    explain=explain,
    models=BASELINES,
)
