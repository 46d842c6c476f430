"""What the importers of MobileNetV3 and EfficientNet share: the walk over an MBNet and its definitions."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from mxnet.gluon import Parameter, nn
from mxnet.gluon.block import HybridBlock

from ..models.mbnet import MBNet, round_channels
from ..models.preprocessing import Preprocessing
from ..nn import ConvBN, IdleBlock, IdleRun, MBBlock

__all__ = [
    "BASELINES",
    "LITES",
    "MOBILENET_V2",
    "PLAIN",
    "TENSORFLOW",
    "Layers",
    "conv_bn",
    "explain",
    "layers",
    "lite_preprocessing",
    "staged",
]

# `PLAIN` is also what MBNet does when nothing is asked for.
PLAIN = {"bn_epsilon": 1e-5, "padding": "symmetric"}
TENSORFLOW = {"bn_epsilon": 1e-3, "padding": "same"}

Models = Tuple[Tuple[str, Dict[str, Any]], ...]
BASELINES: Models = (("mobilenet_v3_large", {}), ("mobilenet_v3_small", {}), ("efficientnet_b0", {}))
LITES: Models = tuple((f"efficientnet_lite{number}", {}) for number in range(5))
MOBILENET_V2: Models = tuple((f"mobilenet_v2_{width}", {}) for width in ("x1_0", "x0_75", "x0_5", "x0_35", "x1_4"))


def lite_preprocessing(side: int) -> Preprocessing:
    """What the evaluation of EfficientNet-Lite (tensorflow/tpu) does: a margin of 32 pixels is cut off first."""
    return Preprocessing((127.0,) * 3, (128.0,) * 3, "rgb", "pillow_bicubic", side / (side + 32), side, crop_first=True)


Named = Iterator[Tuple[str, HybridBlock]]


class Layers(NamedTuple):
    """The layers of an MBNet in order.

    `hidden` is MobileNetV3's layer after pooling; an IdleBlock counts as the MBBlock on its active channels.
    """

    stem: ConvBN
    blocks: List[MBBlock]
    head: ConvBN
    hidden: Optional[nn.Conv2D]
    classifier: nn.Dense


def layers(net: MBNet) -> Layers:
    """Return the layers of a network by their part in it."""
    stem, *rest = (block for stage in net.stages for block in stage._children.values())
    head, *tail = net.features[-1]._children.values()
    hidden = next((layer for layer in tail if isinstance(layer, nn.Conv2D)), None)
    return Layers(stem, list(_mb_blocks(rest)), head, hidden, net.output)


def _mb_blocks(blocks) -> Iterator[MBBlock]:
    for block in blocks:
        if isinstance(block, IdleRun):
            yield from _mb_blocks(block._children.values())
        else:
            yield block.active if isinstance(block, IdleBlock) else block


def staged(net: MBNet) -> Iterator[Tuple[int, int, MBBlock]]:
    """Yield (stage, index in it, block), both from 0. A stage begins with a stride or another output width."""
    stage, index, width = -1, 0, None
    for block, row in zip(layers(net).blocks, net.arch.rows):
        stage, index = (stage, index + 1) if row.out == width and row.stride == 1 else (stage + 1, 0)
        width = row.out
        yield stage, index, block


def conv_bn(unit: ConvBN, conv: str, bn: str) -> Named:
    """Yield the two layers of a unit under their official names."""
    yield conv, unit.conv
    yield bn, unit.bn


def explain(net: MBNet, wrong: Mapping[Parameter, Tuple[int, ...]]) -> Optional[Dict[str, Any]]:
    """Return the options that would give the shapes in `wrong`, {parameter: official shape}; None if none do.

    In official shapes a 1x1 convolution is a matrix.
    """
    parts = layers(net)
    axes = _option_axes(net, parts)
    options: Dict[str, Any] = {}
    for param, shape in wrong.items():
        ours = param.shape[: len(shape)]
        differing = {axis for axis, (size, own) in enumerate(zip(shape, ours)) if size != own}
        if len(shape) != len(ours) or not differing or differing - axes.get(param, {}).keys():
            return None
        options.update({axes[param][axis]: shape[axis] for axis in differing})
    if "se_rounding" in options:
        options["se_rounding"] = _se_rounding(net, parts, wrong)
        if options["se_rounding"] is None:
            return None
    return options


def _option_axes(net: MBNet, parts: Layers) -> Dict[Parameter, Dict[int, str]]:
    """The sizes that an option decides: {parameter: {axis: option}}."""
    axes = {
        parts.stem.conv.weight: {1: "in_channels"},
        net.output.weight: {0: "classes"},
        net.output.bias: {0: "classes"},
    }
    if parts.hidden is not None:
        axes[parts.hidden.weight] = axes[parts.hidden.bias] = {0: "head_hidden"}
        axes[net.output.weight][1] = "head_hidden"
    for block in parts.blocks:
        if block.se is not None:
            axes[block.se.reduce.weight] = axes[block.se.reduce.bias] = {0: "se_rounding"}
            axes[block.se.expand.weight] = {1: "se_rounding"}
    return axes


def _se_rounding(net: MBNet, parts: Layers, wrong: Mapping[Parameter, Tuple[int, ...]]) -> Optional[str]:
    """The rounding that gives the reduced widths of the checkpoint, None if none does."""
    weights = [block.se.reduce.weight for block in parts.blocks if block.se is not None]
    official = [wrong.get(weight, weight.shape)[0] for weight in weights]
    rows = [(width, row) for width, row in zip(net.arch.inputs(), net.arch.rows) if row.se]
    quarters = [width / 4 if net.arch.se_of_input else row.hidden // 4 for width, row in rows]
    for rounding in ("nearest", "ceil", "exact"):
        if [round_channels(quarter, rounding) for quarter in quarters] == official:
            return rounding
    return None
