"""Taps: maps taken from within a network, by stage, by block, or before the last stride of a block."""

from __future__ import annotations

from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import Block, HybridBlock

from ..nn import ConvBN
from ..nn.variants import inference_variants

__all__ = ["Place", "Tap", "extract", "map_shapes", "places", "run", "set_output_stride"]

# A stage, or the text that `ClassificationNet.extract` describes.
Tap = Union[int, str]
OUTPUT_STRIDES = (8, 16, 32)


class Place(NamedTuple):
    """Where a map is taken: behind a stage, behind one of its blocks, or within that. The head is one more stage."""

    stage: int
    block: Optional[int] = None
    expansion: bool = False


def places(net: Any, taps: Sequence[Tap]) -> List[Place]:
    """Return where the taps of a network are. Raises ValueError for a tap that it does not have."""
    if isinstance(taps, (str, int)):
        raise ValueError(f"taps={taps!r} must be a list, such as [{taps!r}]")
    return [_place(net, tap) for tap in taps]


def _place(net: Any, tap: Tap) -> Place:
    stages = net.stages
    if tap == "head":
        if not isinstance(net.features[-1][0], (ConvBN, nn.Conv2D)):
            raise ValueError(f"{_name(net)} has no convolution behind its stages: take {len(stages) - 1}, the last one")
        return Place(len(stages), 0)
    if tap == "expansion":
        strides = [stage.stride for stage in net.stage_info]
        tap = f"{max(place for place in range(1, len(strides)) if strides[place] > strides[place - 1])}.0.expansion"
    stage, *rest = str(tap).split(".")
    try:
        number = range(len(stages))[int(stage)]
        block = range(len(stages[number]))[int(rest[0])] if rest else None
        if isinstance(tap, bool) or rest[1:] not in ([], ["expansion"]):
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(
            f"{_name(net)} has no tap {tap!r}: take a stage from 0 to {len(stages) - 1}, a block such as '3.0', "
            "a block's '3.0.expansion', 'expansion', or 'head'"
        ) from None
    if rest[1:] and not hasattr(stages[number][block], "tapped"):
        raise ValueError(f"block {block} of stage {number} of {_name(net)} has no expansion; take '{number}.{block}'")
    return Place(number, block, bool(rest[1:]))


def extract(net: Any, x, taps: Sequence[Tap]) -> Tuple[list, Any]:
    """Return the maps at the taps of a network, and what its last stage that is needed gives."""
    wanted = places(net, taps)
    stages = [*net.stages, net.features[-1]]
    return run(stages[: 1 + max((place.stage for place in wanted), default=-1)], x, wanted)


def run(stages: Sequence[HybridBlock], x, wanted: Sequence[Place]) -> Tuple[list, Any]:
    """Apply stages one after the other, and return the maps at `wanted`, in this order, and the last one.

    Of the head only the convolution is applied, and only where it is wanted.
    """
    F, found = mx.sym if isinstance(x, mx.sym.Symbol) else mx.nd, {}
    for number, stage in enumerate(stages):
        inner = {place for place in wanted if place.stage == number and place.block is not None}
        if not inner:
            x = found[Place(number)] = stage(x)
            continue
        last = max(place.block for place in inner if place.block is not None)
        only_inner = number == len(stages) - 1 and Place(number) not in wanted
        for position, block in enumerate(stage._children.values()):
            if only_inner and position > last:
                break
            if Place(number, position, True) in inner:
                found[Place(number, position, True)], x = block.tapped(F, x)
            else:
                x = block(x)
            found[Place(number, position)] = x
        found[Place(number)] = x
    return [found[place] for place in wanted], x


def map_shapes(function: Callable[[Any], list], in_channels: int, side: int) -> List[Tuple[int, int]]:
    """Return channels and height of the maps that a function makes of square images, without computing any."""
    with inference_variants():
        maps = mx.sym.Group(function(mx.sym.var("data")))
    _, shapes, _ = maps.infer_shape(data=(1, in_channels, side, side))
    return [shape[1:3] for shape in shapes]


def set_output_stride(net: Any, stride: int) -> None:
    """See `ClassificationNet.set_output_stride`."""
    if stride not in OUTPUT_STRIDES:
        raise ValueError(f"the output stride is {stride}; choose one of {', '.join(map(str, OUTPUT_STRIDES))}")
    if net.output_stride not in (None, stride):
        raise ValueError(
            f"the output stride of {_name(net)} is {net.output_stride} already; build the network anew for {stride}"
        )
    if any(info.stride > stride and info.stride & (info.stride - 1) for info in net.stage_info):
        raise ValueError(f"{_name(net)} has strides that are no powers of 2")
    beyond = [number for number, info in enumerate(net.stage_info) if info.stride > stride]
    blocks = [list(_spatial(block)) for number in beyond for block in net.stages[number]._children.values()]
    for layers in blocks:
        # Two strides in one block are those of branches side by side.
        if not all(type(layer) is ConvBN for layer in layers) or sum(layer.stride > 1 for layer in layers) > 1:
            raise ValueError(f"{_name(net)} has layers that cannot be dilated: its output stride stays")
    dilation = 1
    for layer in (layer for layers in blocks for layer in layers):
        # A convolution that had a stride reads its own map whole, and those behind it skip what it would have skipped.
        grows = layer.stride
        if grows > 1 or dilation > 1:
            layer.set_dilation(dilation)
        dilation *= grows
    if beyond:
        net.output_stride = stride
        net.stage_info = [info._replace(stride=min(info.stride, stride)) for info in net.stage_info]
        net.apply(lambda block: block._clear_cached_op() if isinstance(block, HybridBlock) else None)


def _spatial(block: Block) -> Iterator[Any]:
    """Yield the layers that read more than one pixel, or not all of them, but global pooling."""
    if isinstance(block, ConvBN):
        if block.kernel > 1 or block.stride > 1:
            yield block
        return
    settings = getattr(block, "_kwargs", {})
    kernel, is_global = settings.get("kernel", (1,)), settings.get("global_pool", False)
    if not is_global and (max(kernel) > 1 or max(settings.get("stride", (1,))) > 1):
        yield block
    for child in block._children.values():
        yield from _spatial(child)


def _name(net: Any) -> str:
    return net.info.name if net.info else type(net).__name__
