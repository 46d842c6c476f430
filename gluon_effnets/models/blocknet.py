"""BlockNet: every network that is a stem, a table of any blocks, and a head."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from mxnet.gluon.block import HybridBlock

from ..nn import BlockStyle
from .staged import StagedNet

__all__ = ["BlockNet", "BlockRow", "Table"]


class BlockRow(NamedTuple):
    """A block: `make(in_channels, style=..., drop_connect=...)`, its output width and stride."""

    make: Callable
    out: int
    stride: int


class Table(NamedTuple):
    """The numbers of a network of any blocks. `definition`: what its shapes do not show, as constructor options."""

    stem: int
    rows: Tuple[BlockRow, ...]
    act: str = "relu6"
    se_act: Optional[str] = "relu"
    se_gate: str = "hard_sigmoid"
    head: Optional[int] = None  # width of a last 1x1 convolution
    head_hidden: Optional[int] = None
    definition: Mapping[str, Any] = {}


class BlockNet(StagedNet):
    """The network of a `Table`; options are those of `StagedNet`."""

    def __init__(self, table: Table, *args, **options):
        super().__init__(table, functools.partial(_blocks, table), *args, **options)
        self.table = table

    def definition(self) -> Dict[str, Any]:
        return {**super().definition(), **self.table.definition}


def _blocks(table: Table, style: BlockStyle, drop_connect: float) -> Iterator[Tuple[HybridBlock, int, int]]:
    width = table.stem
    for number, row in enumerate(table.rows):
        # Linear rule of the EfficientNet code: rate * index / number of blocks.
        yield row.make(width, style=style, drop_connect=drop_connect * number / len(table.rows)), row.out, row.stride
        width = row.out
