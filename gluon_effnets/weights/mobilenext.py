"""Names of the official MobileNeXt repository: mnext, mnext_s, mnext_l and the networks of its ablations."""

from __future__ import annotations

from typing import Iterator

from ..models.mobilenext import MobileNeXt
from ..models.preprocessing import TORCH_IMAGENET
from ..nn import ConvBN, ConvChain, NarrowShortcuts, NormalizedSqueezeExcite
from .mbnet import PLAIN, TENSORFLOW, Named, conv_bn
from .source import Source, explain_ends

__all__ = [
    "MOBILENET_V2_EXTRA",
    "MOBILENET_V2_EXTRA_LINEAR",
    "MOBILENEXT",
    "MOBILENEXT_FIG4C",
    "MOBILENEXT_LOW_SHORTCUT",
    "MOBILENEXT_SE",
    "name_units_flat",
]


def _chains(net: MobileNeXt) -> Iterator[ConvChain]:
    for stage in net.stages:
        for block in stage._children.values():
            if isinstance(block, ConvChain):
                yield block
            elif isinstance(block, NarrowShortcuts):
                yield from block.blocks


def name_units_flat(block: ConvChain, at: str) -> Named:
    """Convolution, BN and activation are counted one by one."""
    yield from _flat(block.units, at)


def _flat(units, at: str) -> Named:
    position = 0
    for unit in units:
        if isinstance(unit, NormalizedSqueezeExcite):
            yield from conv_bn(unit.reduce, f"{at}.{position}.fc.1", f"{at}.{position}.fc.2")
            yield from conv_bn(unit.expand, f"{at}.{position}.fc.4", f"{at}.{position}.fc.5")
            position += 1
            continue
        yield from conv_bn(unit, f"{at}.{position}", f"{at}.{position + 1}")
        position += 2 if unit.act is None else 3


def _halves(block: ConvChain, at: str) -> Named:
    """What comes before the end of the bottleneck, and what comes behind it, are counted apart."""
    units = list(block.units)
    end = getattr(block, "num_reducing", len(units))  # a chain that is no SandGlass has no such end
    yield from _flat(units[:end], at + "1")
    yield from _flat(units[end:], at + "2")


def _nested(block: ConvChain, at: str) -> Named:
    """Convolution and BN are counted as one but at the end, as in torchvision's MobileNetV2."""
    *before, last = block.units
    for position, unit in enumerate(before):
        yield from conv_bn(unit, f"{at}.{position}.0", f"{at}.{position}.1")
    yield from conv_bn(last, f"{at}.{len(before)}", f"{at}.{len(before) + 1}")


def _nested_where_active(block: ConvChain, at: str) -> Named:
    """Units with an activation are counted as one, the others as two."""
    position = 0
    for unit in block.units:
        if unit.act is None:
            yield from conv_bn(unit, f"{at}.{position}", f"{at}.{position + 1}")
        else:
            yield from conv_bn(unit, f"{at}.{position}.0", f"{at}.{position}.1")
        position += 2 if unit.act is None else 1


def _layers_by(name_units, head: str, classifier: str):
    """Stem `features.0`, blocks `features.<number>.conv`, the last 1x1 convolution, if there is one, and the rest."""

    def layers(net: MobileNeXt) -> Named:
        yield from conv_bn(net.stages[0][0], "features.0.0", "features.0.1")
        number = 0
        for number, block in enumerate(_chains(net), 1):
            yield from name_units(block, f"features.{number}.conv")
        last = net.features[-1][0]
        if isinstance(last, ConvBN):
            at = head.format(number + 1)
            yield from conv_bn(last, at + ".0", at + ".1")
        yield classifier, net.output

    return layers


def _layers_se(net: MobileNeXt) -> Named:
    yield from conv_bn(net.stages[0][0], "_conv_stem", "_bn0")
    for number, block in enumerate(_chains(net)):
        yield from name_units_flat(block, f"_blocks.{number}.features")
        if block.se is not None:
            yield f"_blocks.{number}._se_reduce", block.se.reduce
            yield f"_blocks.{number}._se_expand", block.se.expand
    yield "_fc", net.output


MOBILENEXT = Source(
    name="mobilenext",
    mark="features.0.0.weight",
    network=MobileNeXt,
    layers=_layers_by(name_units_flat, "none", "classifier.1"),
    definition=lambda net: PLAIN,
    explain=explain_ends,
    models=tuple(
        (f"mobilenext_{name}", {})
        for name in (
            *("x1_0", "x0_75", "x0_5", "x0_35", "x1_4", "fig4a", "fig4b", "low_identity", "extra_1x1"),
            *("without_first_dw", "bottleneck_se", "ratio_4"),
        )
    ),
)
MOBILENEXT_SE = MOBILENEXT._replace(
    name="mobilenext_se",
    mark="_conv_stem.weight",
    layers=_layers_se,
    definition=lambda net: TENSORFLOW,
    models=(("mobilenext_s", {}), ("mobilenext_l", {})),
    # A BN that the official networks create behind the last block, and never use.
    ignores=("_bn1.",),
    preprocessing=lambda net, definition: TORCH_IMAGENET,
)
MOBILENEXT_FIG4C = MOBILENEXT._replace(
    name="mobilenext_fig4c",
    mark="conv.0.weight",
    layers=_layers_by(name_units_flat, "conv", "classifier"),
    models=(("mobilenext_fig4c", {}),),
)
MOBILENEXT_LOW_SHORTCUT = MOBILENEXT._replace(
    name="mobilenext_low_shortcut",
    mark="features.1.conv1.0.weight",
    layers=_layers_by(_halves, "none", "classifier.1"),
    models=(("mobilenext_low_shortcut", {}),),
)
# Not official: the names that torchvision's MobileNetV2 gets by one more unit in every block.
MOBILENET_V2_EXTRA = MOBILENEXT._replace(
    name="mobilenet_v2_extra",
    mark="features.1.conv.0.0.weight",
    layers=_layers_by(_nested, "features.{}", "classifier.1"),
    models=(("mobilenet_v2_extra_dw", {}),),
)
# The same by a convolution and a BN of their own, as in the commented lines of the authors' code.
MOBILENET_V2_EXTRA_LINEAR = MOBILENET_V2_EXTRA._replace(
    name="mobilenet_v2_extra_linear",
    mark="features.1.conv.2.0.weight",
    layers=_layers_by(_nested_where_active, "features.{}", "classifier.1"),
    models=(("mobilenet_v2_extra_dw", {"extra_act": None}),),
)
