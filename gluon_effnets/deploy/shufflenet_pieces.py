"""A stage of ShuffleNetV2 without shuffle and split: what later branches read apart is written apart."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .filters import EMPTY, Filter, Slots

__all__ = ["stage_in_pieces"]

# Of channels, in which ONNX Runtime and oneDNN keep maps with AVX-512: joining whole blocks leaves the layout alone.
BLOCK = 16

Channel = Tuple[int, int]  # number of the branch that makes it, index there


def stage_in_pieces(
    branches: Sequence[Sequence[Filter]], readers: Sequence[Sequence[Channel]], slots: Slots
) -> Tuple[HybridBlock, Slots]:
    """A stage, (N, len(slots), H, W) -> (N, len(result), H / 2, W / 2), and the slots of its output.

    branches : of every unit, from its first convolution to its last. The first two, the sides of the unit with stride,
        read the stage's input, whose channels stand in `slots`.
    readers : the channels that every further branch reads, in order, and at last those that leave the stage. No
        channel has two readers.
    """
    made: List[_Branch] = []
    pieces: List[List[Channel]] = []
    joins: List[List[int]] = []
    for number, filters in enumerate(branches):
        if number > 1:
            joins.append(_touched(pieces, readers[number - 2]))
            slots = _standing(pieces, joins[-1], readers[number - 2])
        cut = _cut([[index for part, index in channels if part == number] for channels in readers])
        pieces += [[(number, index) for index in piece] for piece in cut]
        made.append(_Branch(filters, slots, cut))
    joins.append(_touched(pieces, readers[-1]))
    return _Stage(made, joins), _standing(pieces, joins[-1], readers[-1])


def _cut(by_reader: Sequence[Sequence[int]]) -> List[Slots]:
    """Pieces of whole blocks, one for every reader of a branch; readers of few channels share one."""
    pieces: List[List[int]] = []
    shared: List[int] = []
    for channels in by_reader:
        if len(channels) > BLOCK // 2:
            pieces.append(list(channels))
        elif channels:
            if not shared or len(shared) + len(channels) > BLOCK:
                shared = []
                pieces.append(shared)
            shared += channels
    return [_whole(piece) for piece in pieces]


def _whole(channels: Sequence[int]) -> Slots:
    return np.pad(np.array(channels), (0, -len(channels) % BLOCK), constant_values=EMPTY)


def _touched(pieces: Sequence[Sequence[Channel]], channels: Sequence[Channel]) -> List[int]:
    wanted = set(channels)
    return [number for number, piece in enumerate(pieces) if wanted.intersection(piece)]


def _standing(pieces: Sequence[Sequence[Channel]], joined: Sequence[int], channels: Sequence[Channel]) -> Slots:
    """Which of `channels` stands in each place of the joined pieces; those of other readers count as empty."""
    column: Dict[Channel, int] = {channel: index for index, channel in enumerate(channels)}
    return np.array([column.get(channel, EMPTY) for number in joined for channel in pieces[number]])


class _Branch(HybridBlock):
    """(N, len(slots), H, W) -> the pieces that its last convolution writes, a list of (N, len(piece), H', W')."""

    def __init__(self, filters: Sequence[Filter], slots: Slots, pieces: Sequence[Slots]):
        super().__init__()
        *first, last = filters
        with self.name_scope():
            self.first, self.pieces = nn.HybridSequential(), nn.HybridSequential()
            for folded in first:
                if folded.groups > 1:
                    self.first.add(folded.channelwise(slots).layer())
                else:
                    hidden = _whole(range(len(folded.bias)))
                    self.first.add(folded.reading(slots).writing(hidden).layer())
                    slots = hidden
            for piece in pieces:
                self.pieces.add(last.reading(slots).writing(piece).layer())

    def hybrid_forward(self, F, x):
        y = self.first(x)
        return [piece(y) for piece in self.pieces._children.values()]


class _Stage(HybridBlock):
    """`joins`: the numbers of the pieces that every branch but the first two reads, and of those that leave."""

    def __init__(self, branches: Sequence[_Branch], joins: Sequence[Sequence[int]]):
        super().__init__()
        self._joins = joins
        with self.name_scope():
            for branch in branches:
                self.register_child(branch)

    def hybrid_forward(self, F, x):
        proj, first, *further = self._children.values()
        pieces = [*proj(x), *first(x)]
        for branch, numbers in zip(further, self._joins):
            pieces += branch(F.concat(*(pieces[number] for number in numbers), dim=1))
        return F.concat(*(pieces[number] for number in self._joins[-1]), dim=1)
