"""Names of FSSD_mobile of lzx1413/PytorchSSD."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from mxnet.gluon import Parameter

from ..detection import get_detector
from ..detection.fssd import FSSD, FSSDPredictor
from ..nn import ConvBN
from .mbnet import PLAIN, Named, conv_bn
from .source import Source

__all__ = ["PYTORCH_FSSD"]

UNITS = ("2_1", "2_2", "3_1", "3_2", "4_1", "4_2", *(f"5_{number}" for number in range(1, 7)), "6")


def _layers(net: FSSD) -> Named:
    predictor = net.predictor
    assert isinstance(predictor, FSSDPredictor)
    stem, *units = (block for stage in predictor.backbone.stages for block in stage)
    yield from conv_bn(stem, "base.conv1", "base.bn1")
    for name, unit in zip(UNITS, units):
        for kind, layer in zip(("dw", "sep"), unit.units):
            assert isinstance(layer, ConvBN)
            yield from conv_bn(layer, f"base.dw{name}.conv_{kind}", f"base.dw{name}.bn_{kind}")
    neck = predictor.neck
    yield from ((f"ft_module.{number}.conv", layer) for number, layer in enumerate(neck.transforms))
    for number, block in enumerate(neck.blocks):
        path, layers = f"pyramid_ext.{number}", (block.depthwise, block.first, block.pointwise, block.second)
        yield from zip((f"{path}.{part}" for part in ("conv_dw", "bn_dw", "conv_sep", "bn_sep")), layers)
    yield "fea_bn", neck.norm
    for kind, heads in (("loc", predictor.box_heads), ("conf", predictor.class_heads)):
        yield from ((f"{kind}.{number}", head.output) for number, head in enumerate(heads))


def _explain(net: FSSD, wrong: Mapping[Parameter, Tuple[int, ...]]) -> Optional[Dict[str, Any]]:
    """The classes that would give the shapes of the heads."""
    if not wrong:
        return {}
    heads = {param: head for head in net.predictor.class_heads for param in (head.output.weight, head.output.bias)}
    found = set()
    for param, shape in wrong.items():
        if param not in heads or shape[1:] != param.shape[1:]:
            return None
        found.add(shape[0] / (param.shape[0] / (net.num_classes + 1)) - 1)
    return {"classes": int(found.pop())} if len(found) == 1 and len(wrong) == len(heads) else None


PYTORCH_FSSD = Source(
    name="pytorch_fssd",
    mark="fea_bn.weight",
    network=FSSD,
    layers=_layers,
    definition=lambda net: PLAIN,
    explain=_explain,
    models=(("fssd300_mobilenet_v1", {}),),
    make=get_detector,
    ignores=("base.fc.",),
    preprocessing=lambda net, definition: net.preprocessing,
)
