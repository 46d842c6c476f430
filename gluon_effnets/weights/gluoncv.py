"""Names of GluonCV's own mobilenetv3_large and mobilenetv3_small, as `save_parameters` writes them."""

from __future__ import annotations

from ..models.mbnet import MBNet
from ..models.preprocessing import Preprocessing
from .mbnet import PLAIN, Named, conv_bn, explain, layers
from .source import Source

__all__ = ["GLUONCV"]


def _layers(net: MBNet) -> Named:
    parts = layers(net)
    # `features` is one flat list: convolution, BN, activation, the blocks, and the same three again.
    yield from conv_bn(parts.stem, "features.0", "features.1")
    for number, block in enumerate(parts.blocks, 3):
        at = f"features.{number}."
        if block.expand is not None:
            yield from conv_bn(block.expand, at + "expand.conv", at + "expand.bn")
        yield from conv_bn(block.depthwise, at + "conv1.conv", at + "conv1.bn")
        if block.se is not None:
            yield at + "se.conv1", block.se.reduce
            yield at + "se.conv2", block.se.expand
        yield from conv_bn(block.project, at + "conv2.conv", at + "conv2.bn")
    end = 3 + len(parts.blocks)
    yield from conv_bn(parts.head, f"features.{end}", f"features.{end + 1}")
    if parts.hidden is not None:
        yield f"features.{end + 4}", parts.hidden
    yield "output.0", parts.classifier


def _hidden_bias(net: MBNet):
    hidden = layers(net).hidden
    return () if hidden is None else (hidden.bias,)


GLUONCV = Source(
    name="gluoncv",
    mark="features.0.weight",
    network=MBNet,
    layers=_layers,
    definition=lambda net: PLAIN,
    explain=explain,
    # GluonCV follows the first version of the paper in the Small network.
    models=(("mobilenet_v3_large", {}), ("mobilenet_v3_small", {"head_hidden": 1280})),
    tensor_names={},
    lacks=_hidden_bias,
    # Trained with the recipe whose numbers are our default.
    preprocessing=lambda net, definition: Preprocessing(),
)
