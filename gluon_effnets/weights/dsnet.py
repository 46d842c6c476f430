"""Names of the authors' DS-Net (changlin31/DS-Net): the supernet with a list of BN layers for the widths."""

from __future__ import annotations

from ..models.dsnet import SlimmableMobileNet
from ..models.preprocessing import TORCH_IMAGENET
from ..nn import ConvBN
from .mbnet import PLAIN, Named
from .source import Source, explain_ends

__all__ = ["DS_NET"]


def _conv_bn(net: SlimmableMobileNet, unit: ConvBN, conv: str, bn: str) -> Named:
    yield conv, unit.conv
    # The last of the list, that of the largest width, has the gamma and beta of all.
    for index, statistics in enumerate(net.statistics.widths(unit.bn).values()):
        yield f"{bn}.aux_bn.{index}", statistics


def _layers(net: SlimmableMobileNet) -> Named:
    stem, *units = net.steps()
    yield from _conv_bn(net, stem.block, "conv_stem", "bn1")
    for step in units:
        unit = step.block
        assert step.number is not None, "all blocks of this network have Parameters"
        at = f"blocks.{step.number - 1}." + (f"residual_blocks.{step.place - 1}." if step.place else "first_block.")
        yield from _conv_bn(net, unit.depthwise, at + "conv_dw", at + "bn1")
        if unit.se is not None:
            yield at + "gate.conv_reduce", unit.se.reduce
            yield at + "gate.conv_expand", unit.se.expand
        if step.gate is not None:
            yield at + "gate.gate.0", net.gates[step.gate].gate
        yield from _conv_bn(net, unit.pointwise, at + "conv_pw", at + "bn2")
    yield "classifier", net.output


DS_NET = Source(
    name="ds_net",
    mark="bn1.aux_bn.0.running_mean",
    network=SlimmableMobileNet,
    layers=_layers,
    definition=lambda net: PLAIN,
    explain=explain_ends,
    models=(("ds_mobilenet_v1", {}),),
    preprocessing=lambda net, definition: TORCH_IMAGENET,
)
