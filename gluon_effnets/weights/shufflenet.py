"""Names of the authors' ShuffleNetV1 and V2 (megvii-model/ShuffleNet-Series), and of torchvision's ShuffleNetV2."""

from __future__ import annotations

from typing import Iterator, Tuple, Union

from mxnet.gluon import Parameter

from ..models.preprocessing import RAW_BGR
from ..models.shufflenetv1 import ShuffleNet
from ..nn import ConvBN, ShuffleUnit, ShuffleUnitV2
from .mbnet import PLAIN, Named, conv_bn
from .source import Source, explain_ends

__all__ = ["MEGVII_V1", "MEGVII_V2", "TORCHVISION_SHUFFLENET"]

SCALES = ("x0_5", "x1_0", "x1_5", "x2_0")


def _units(net: ShuffleNet) -> Iterator[Tuple[int, int, Union[ShuffleUnit, ShuffleUnitV2]]]:
    """Yield (stage, index in it, unit); stages are counted from 2, as in the papers."""
    stage, index = 1, 0
    for blocks in net.stages:
        for block in blocks._children.values():
            if isinstance(block, (ShuffleUnit, ShuffleUnitV2)):
                stage, index = (stage + 1, 0) if block is blocks[0] else (stage, index + 1)
                yield stage, index, block


def _in_sequence(units, at: str, *positions: int) -> Named:
    """Convolutions at `positions` of a sequence, each with its BN behind it; ReLUs between them are counted, too."""
    for unit, position in zip(units, positions):
        yield from conv_bn(unit, f"{at}.{position}", f"{at}.{position + 1}")


def _last_conv(net: ShuffleNet) -> Tuple[ConvBN, ...]:
    last = net.features[-1][0]
    return (last,) if isinstance(last, ConvBN) else ()


def _megvii(net: ShuffleNet) -> Named:
    yield from _in_sequence([net.stages[0][0]], "first_conv", 0)
    for number, (_, _, unit) in enumerate(_units(net)):
        at = f"features.{number}."
        if isinstance(unit, ShuffleUnit):
            yield from _in_sequence((unit.reduce, unit.depthwise), at + "branch_main_1", 0, 3)
            yield from _in_sequence([unit.expand], at + "branch_main_2", 0)
        else:
            yield from _in_sequence(unit.branch, at + "branch_main", 0, 3, 5)
            yield from _in_sequence(unit.proj or (), at + "branch_proj", 0, 2)
    yield from _in_sequence(_last_conv(net), "conv_last", 0)
    yield "classifier.0", net.output


def _torchvision(net: ShuffleNet) -> Named:
    yield from _in_sequence([net.stages[0][0]], "conv1", 0)
    for stage, index, unit in _units(net):
        if isinstance(unit, ShuffleUnitV2):  # torchvision has no V1
            at = f"stage{stage}.{index}."
            yield from _in_sequence(unit.branch, at + "branch2", 0, 3, 5)
            yield from _in_sequence(unit.proj or (), at + "branch1", 0, 2)
    yield from _in_sequence(_last_conv(net), "conv5", 0)
    yield "fc", net.output


def _shuffled(net: ShuffleNet):
    # No key tells a network without shuffle from one with it; whoever set the option knows.
    shuffles = net.definition().get("shuffle") != "none"
    return {**PLAIN, "shuffle": "official" if shuffles else "none"}


def _no_bias(net: ShuffleNet) -> Tuple[Parameter, ...]:
    return () if net.output.bias is None else (net.output.bias,)


MEGVII_V1 = Source(
    name="megvii_v1",
    mark="features.0.branch_main_1.0.weight",
    network=ShuffleNet,
    layers=_megvii,
    definition=_shuffled,
    explain=explain_ends,
    models=tuple((f"shufflenet_v1_g{groups}_{scale}", {}) for groups in (3, 8) for scale in SCALES),
    lacks=_no_bias,
    preprocessing=lambda net, definition: RAW_BGR,
)
MEGVII_V2 = MEGVII_V1._replace(
    name="megvii_v2",
    mark="features.0.branch_main.0.weight",
    definition=lambda net: {**PLAIN, "definition": "megvii"},
    models=tuple((f"shufflenet_v2_{scale}", {}) for scale in SCALES),
)
TORCHVISION_SHUFFLENET = Source(
    name="torchvision",
    mark="stage2.0.branch2.0.weight",
    network=ShuffleNet,
    layers=_torchvision,
    definition=lambda net: {**PLAIN, "definition": "torchvision"},
    explain=explain_ends,
    models=tuple((f"shufflenet_v2_{scale}", {"definition": "torchvision"}) for scale in SCALES),
)
