"""MBNet: every network that is a stem, a table of MBBlocks or IdleBlocks, and a head."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import mxnet as mx
from mxnet.gluon import nn

from ..nn import BlockStyle, ConvBN, FanOutNormal, IdleBlock, IdleRun, MBBlock, Norm, make_activation
from .base import ClassificationNet, StageInfo

__all__ = ["Architecture", "MBNet", "Row", "round_channels", "row_madds", "table_madds"]


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


class MBNet(ClassificationNet):
    """(N, in_channels, H, W) -> (N, classes), built from an `Architecture`.

    Parameters
    ----------
    classes, in_channels : int
    dropout : probability before the classifier.
    drop_connect : probability at the last block, rising linearly from 0 at the first one.
    bn_epsilon, bn_momentum : of every BN layer; None: 1e-5 and 0.9. (`load_official` sets the epsilon of a network
        that was built with None to that of the checkpoint's definition.)
    padding : 'symmetric', or 'same' as TensorFlow pads at stride 2; None: symmetric, adaptable in the same way.
    stem_stride : 2, or 1 for images of about 32 pixels.
    norm_layer, norm_kwargs : as in GluonCV, for all BN layers.
    carry_idle : join the halves once per run of IdleBlocks instead of once per block (equal results).
    merged_concat : see `gluon_effnets.nn.concat_channels`.
    """

    def __init__(
        self,
        arch: Architecture,
        classes: int = 1000,
        in_channels: int = 3,
        *,
        dropout: float = 0.2,
        drop_connect: float = 0.0,
        bn_epsilon: Optional[float] = None,
        bn_momentum: float = 0.9,
        padding: Optional[str] = None,
        stem_stride: int = 2,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        carry_idle: bool = True,
        merged_concat: bool = True,
        **kwargs,
    ):
        super().__init__(classes, in_channels, **kwargs)
        self.arch = arch
        # What the caller left open may be adapted to the definition of an imported checkpoint.
        self.fixed_options = {k: v for k, v in (("bn_epsilon", bn_epsilon), ("padding", padding)) if v is not None}
        norm = Norm(1e-5 if bn_epsilon is None else bn_epsilon, bn_momentum, norm_layer, norm_kwargs or {})
        style = BlockStyle(norm, padding or "symmetric", arch.se_act, arch.se_gate)
        conv = {"act": arch.act, "norm": norm, "padding": style.padding}
        stages, infos = [[]], [StageInfo(arch.stem, stem_stride)]
        with self.name_scope():
            stages[0].append(ConvBN(in_channels, arch.stem, 3, stride=stem_stride, **conv))
            for block, out, stride in _blocks(arch, style, drop_connect, carry_idle, merged_concat):
                if stride > 1:
                    stages.append([])
                    infos.append(StageInfo(out, infos[-1].stride * stride))
                stages[-1].append(block)
                infos[-1] = infos[-1]._replace(channels=out)
            self.features = nn.HybridSequential()
            for blocks in stages:
                stage = nn.HybridSequential()
                stage.add(*blocks)
                self.features.add(stage)
            self.features.add(_head(arch, arch.rows[-1].out, dropout, conv))
            self.num_features = arch.head_hidden or arch.head
            self.stage_info = infos
            self._make_output()

    def definition(self) -> Dict[str, Any]:
        stem = self.stages[0][0]
        return {
            "in_channels": self.in_channels,
            "stem_stride": self.stage_info[0].stride,
            "bn_epsilon": stem.bn._kwargs["eps"],
            "padding": stem.padding,
        }

    def default_initializer(self) -> mx.init.Initializer:
        """EfficientNet's own for swish networks, else MSRAPrelu as in GluonCV's MobileNetV3 recipe."""
        return FanOutNormal() if self.arch.act == "swish" else mx.init.MSRAPrelu()


def _head(arch: Architecture, in_channels: int, dropout: float, conv: dict) -> nn.HybridSequential:
    head = nn.HybridSequential()
    head.add(ConvBN(in_channels, arch.head, 1, **conv), nn.GlobalAvgPool2D())
    if arch.head_hidden:
        head.add(nn.Conv2D(arch.head_hidden, 1, in_channels=arch.head), make_activation(arch.act))
    head.add(nn.Flatten())
    if dropout:
        head.add(nn.Dropout(dropout))
    return head


def _blocks(arch: Architecture, style: BlockStyle, drop_connect: float, carry: bool, merged_concat: bool):
    """Yield (block, output width, stride); consecutive IdleBlocks come as one IdleRun."""
    run: List[IdleBlock] = []
    run_of = None  # input width and split of the blocks in `run`
    for number, (width, row) in enumerate(zip(arch.inputs(), arch.rows)):
        common = {
            "act": row.act,
            "se": row.se,
            "expand": row.expand,
            # Linear rule of the EfficientNet code: rate * index / number of blocks.
            "drop_connect": drop_connect * number / len(arch.rows),
            "style": style,
        }
        block = None
        if row.idle:
            block = IdleBlock(
                width,
                row.hidden,
                row.kernel,
                side=row.idle,
                idle_fraction=arch.idle_fraction,
                residual=arch.idle_residual,
                shuffle=arch.shuffle,
                merged_concat=merged_concat,
                **common,
            )
        if run and not (block and (width, block.split_at) == run_of):
            yield IdleRun(run, carry and not arch.shuffle), run_of[0], 1
            run = []
        if block:
            run_of = (width, block.split_at)
            run.append(block)
        else:
            block = MBBlock(width, row.hidden, row.out, row.kernel, stride=row.stride, **common)
            yield block, row.out, row.stride
    if run:
        yield IdleRun(run, carry and not arch.shuffle), run_of[0], 1


def row_madds(width: int, row: Row, side: int, idle_fraction: float = 0.5) -> int:
    """Multiply-adds (convolutions, fully connected layers) of one block whose input is width x side x side."""
    out_side = -(-side // row.stride)
    active_in, active_out = width, row.out
    if row.idle:
        active_in = active_out = width - int(width * idle_fraction)
    madds = active_in * row.hidden * side**2 if row.expand else 0
    madds += row.kernel**2 * row.hidden * out_side**2 + row.hidden * active_out * out_side**2
    return madds + 2 * row.hidden * (row.se or 0)


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
