"""MBNet: every network that is a stem, a table of MBBlocks or IdleBlocks, and a head."""

from __future__ import annotations

import functools
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import mxnet as mx
from mxnet.gluon.block import Block

from ..nn import BlockStyle, ConvBN, FanOutNormal, IdleBlock, IdleRun, MBBlock
from .staged import StagedNet

__all__ = ["Architecture", "MBNet", "Row", "round_channels", "row_madds", "row_params", "table_madds"]


class Row(NamedTuple):
    """One block. `se` is the reduced width of squeeze-and-excitation, None: without it."""

    kernel: int
    hidden: int
    out: int
    se: Optional[int]
    act: str
    stride: int
    expand: bool = True
    idle: Optional[str] = None  # 'left' or 'right': an IdleBlock with its active channels on that side


class Architecture(NamedTuple):
    """The numbers of a network: everything that a checkpoint depends on, and nothing about training."""

    stem: int
    rows: Tuple[Row, ...]
    head: int  # width of the last 1x1 convolution
    head_hidden: Optional[int]  # width of the layer after pooling, None: the classifier follows directly
    act: str  # of stem and head
    se_act: Optional[str] = "relu"
    se_gate: str = "hard_sigmoid"
    se_of_input: bool = False  # SE reduces the block's input width (EfficientNet), not the hidden one
    idle_fraction: float = 0.5
    idle_residual: bool = True  # shortcut on the active branch
    shuffle: bool = False  # channel shuffle behind every IdleBlock

    def inputs(self) -> List[int]:
        """Input width of every row."""
        return [self.stem, *(row.out for row in self.rows)][: len(self.rows)]


def round_channels(value: float, rounding: str = "nearest") -> int:
    """Round a channel number: 'nearest' multiple of 8 (never below 0.9 of it), 'ceil' to 8, or 'exact' (int).

    Raises ValueError for another rounding.
    """
    if rounding == "nearest":
        rounded = max(8, int(value + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * value else rounded
    if rounding == "ceil":
        return -(-int(value) // 8) * 8
    if rounding == "exact":
        return max(1, int(value))
    raise ValueError(f"rounding is {rounding!r}; choose 'nearest', 'ceil' or 'exact'")


class MBNet(StagedNet):
    """The network of an `Architecture`; options are those of `StagedNet`, and

    carry_idle : join the halves once per run of IdleBlocks instead of once per block (equal results).
    merged_concat : see `gluon_effnets.nn.concat_channels`.
    padding_side : side of the images at which padding='same' is TensorFlow's in every layer; None: a multiple of 32.
        At any other side the network works, too.
    """

    def __init__(
        self,
        arch: Architecture,
        *args,
        carry_idle: bool = True,
        merged_concat: bool = True,
        padding_side: Optional[int] = None,
        **options,
    ):
        super().__init__(arch, functools.partial(_blocks, arch, carry_idle, merged_concat), *args, **options)
        self.arch, self.padding_side = arch, padding_side
        if padding_side is not None:
            _set_odd_inputs(self, padding_side)

    def definition(self) -> Dict[str, Any]:
        side = {} if self.padding_side is None else {"padding_side": self.padding_side}
        return {**super().definition(), **side}

    def default_initializer(self) -> mx.init.Initializer:
        """EfficientNet's own for swish networks, else MSRAPrelu as in GluonCV's MobileNetV3 recipe."""
        return FanOutNormal() if self.arch.act == "swish" else mx.init.MSRAPrelu()


def _set_odd_inputs(block: Block, side: int) -> int:
    """Tell the convolutions within a block, of images or maps of this side, whether it is odd; return the last side."""
    if isinstance(block, ConvBN):
        block.set_odd_input(side % 2 == 1)
        return -(-side // block.stride)
    for child in block._children.values():
        side = _set_odd_inputs(child, side)
    return side


def _blocks(arch: Architecture, carry: bool, merged_concat: bool, style: BlockStyle, drop_connect: float):
    """Yield (block, output width, stride); consecutive IdleBlocks come as one IdleRun."""
    run: List[IdleBlock] = []
    run_width = 0  # of the blocks in `run`
    for number, (width, row) in enumerate(zip(arch.inputs(), arch.rows)):
        # Linear rule of the EfficientNet code: rate * index / number of blocks.
        rate = drop_connect * number / len(arch.rows)
        common: Dict[str, Any] = {"act": row.act, "se": row.se, "expand": row.expand, "drop_connect": rate}
        idle: Optional[IdleBlock] = None
        if row.idle:
            idle = IdleBlock(
                width,
                row.hidden,
                row.kernel,
                side=row.idle,
                idle_fraction=arch.idle_fraction,
                residual=arch.idle_residual,
                shuffle=arch.shuffle,
                merged_concat=merged_concat,
                style=style,
                **common,
            )
        if run and not (idle and (width, idle.split_at) == (run_width, run[0].split_at)):
            yield IdleRun(run, carry and not arch.shuffle), run_width, 1
            run = []
        if idle:
            run_width = width
            run.append(idle)
        else:
            block = MBBlock(width, row.hidden, row.out, row.kernel, stride=row.stride, style=style, **common)
            yield block, row.out, row.stride
    if run:
        yield IdleRun(run, carry and not arch.shuffle), run_width, 1


def row_madds(width: int, row: Row, side: int, idle_fraction: float = 0.5) -> int:
    """Multiply-adds (convolutions, fully connected layers) of one block whose input is width x side x side."""
    out_side = -(-side // row.stride)
    active_in, active_out = width, row.out
    if row.idle:
        active_in = active_out = width - int(width * idle_fraction)
    madds = active_in * row.hidden * side**2 if row.expand else 0
    madds += row.kernel**2 * row.hidden * out_side**2 + row.hidden * active_out * out_side**2
    return madds + 2 * row.hidden * (row.se or 0)


def row_params(width: int, row: Row, idle_fraction: float = 0.5) -> int:
    """Parameters of one block whose input has `width` channels; `complexity.count_params` counts the real one."""
    active_in, active_out = width, row.out
    if row.idle:
        active_in = active_out = width - int(width * idle_fraction)
    hidden = row.hidden
    params = active_in * hidden + 2 * hidden if row.expand else 0
    params += (row.kernel**2 + 2) * hidden + hidden * active_out + 2 * active_out
    return params + (2 * hidden * row.se + hidden + row.se if row.se else 0)


def table_madds(arch: Architecture, image_size: int = 224, classes: int = 1000, in_channels: int = 3) -> int:
    """Multiply-adds of the whole network, from the table alone; `complexity.count` measures the real one."""
    side = -(-image_size // 2)
    madds = 9 * in_channels * arch.stem * side**2
    for width, row in zip(arch.inputs(), arch.rows):
        madds += row_madds(width, row, side, arch.idle_fraction)
        side = -(-side // row.stride)
    madds += arch.rows[-1].out * arch.head * side**2
    hidden = arch.head_hidden
    return madds + (arch.head * hidden + hidden * classes if hidden else arch.head * classes)
