"""A stage of ShuffleNetV2 without shuffle and split: what later branches read apart is written apart."""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .filters import EMPTY, Filter, Slots

__all__ = ["BLOCK", "GROWTH", "pieces_pay", "stage_in_pieces"]

# Channels that ONNX Runtime and oneDNN keep together with AVX-512: whole blocks are joined without a change of layout.
BLOCK = 16

# Measured: networks whose convolutions grow by more are as fast or faster with shuffles and splits in this runtime.
GROWTH = {"mxnet": 1.1, "onnx": 1.06}

Channel = Tuple[int, int]  # number of the branch that makes it, index there
Readers = Sequence[Sequence[Channel]]


def stage_in_pieces(
    branches: Sequence[Sequence[Filter]], readers: Readers, slots: Slots, block: int = BLOCK
) -> Tuple[HybridBlock, Slots]:
    """A stage, (N, len(slots), H, W) -> (N, len(result), H / 2, W / 2), and the slots of its output.

    branches : of every unit, from its first convolution to its last. The first two, the sides of the unit with stride,
        read the stage's input, whose channels stand in `slots`.
    readers : the channels that every further branch reads, in order, and at last those that leave the stage. No
        channel has two readers.
    block : channels that are kept together. 1: the pieces are of any size, and cut from one convolution's result.
    """
    cuts = _Cuts.of(readers, block)
    standing = [slots, slots, *(cuts.standing(number, channels) for number, channels in enumerate(readers))]
    made = [_Branch(*parts, block) for parts in zip(branches, standing, cuts.written)]
    return _Stage(made, cuts.joined), standing[-1]


def pieces_pay(readers: Readers, format: str) -> bool:
    """Whether the zeros in the pieces enlarge the 1x1 convolutions of units without stride little enough."""
    cuts, half = _Cuts.of(readers, BLOCK), _up(len(readers[0]), BLOCK)
    read = sum(len(cuts.standing(number, channels)) for number, channels in enumerate(readers[:-1]))
    written = sum(len(piece) for pieces in cuts.written[2:] for piece in pieces)
    return read + written <= GROWTH[format] * 2 * half * (len(readers) - 1)


class _Cuts(NamedTuple):
    """written : the pieces of every branch, which say what channels of the branch stand in them.
    joined : for every reader the numbers of the pieces that it reads, counted through all branches.
    """

    written: List[List[Slots]]
    joined: List[List[int]]

    @classmethod
    def of(cls, readers: Readers, block: int) -> _Cuts:
        by_branch = [
            [[index for made_by, index in channels if made_by == branch] for channels in readers]
            for branch in range(len(readers) + 1)
        ]
        written = [_cut(by_reader, block) for by_reader in by_branch]
        joined: List[List[int]] = [[] for _ in readers]
        number = 0
        for by_reader, pieces in zip(by_branch, written):
            for piece in pieces:
                for numbers, channels in zip(joined, by_reader):
                    if np.intersect1d(piece, channels).size:
                        numbers.append(number)
                number += 1
        return cls(written, joined)

    def standing(self, reader: int, channels: Sequence[Channel]) -> Slots:
        """Which of a reader's channels stands in each place that it reads; those of others count as empty."""
        column = {channel: index for index, channel in enumerate(channels)}
        pieces = [(branch, piece) for branch, pieces in enumerate(self.written) for piece in pieces]
        read = (pieces[number] for number in self.joined[reader])
        return np.array([column.get((branch, index), EMPTY) for branch, piece in read for index in piece])


def _cut(by_reader: Sequence[Sequence[int]], block: int) -> List[Slots]:
    """Pieces of whole blocks, one for every reader of a branch; readers of few channels share one."""
    pieces: List[List[int]] = []
    shared: List[int] = []
    for channels in by_reader:
        if len(channels) > block // 2:
            pieces.append(list(channels))
        elif channels:
            if not shared or len(shared) + len(channels) > block:
                shared = []
                pieces.append(shared)
            shared += channels
    return [_whole(piece, block) for piece in pieces]


def _up(number: int, block: int) -> int:
    return -(-number // block) * block


def _whole(channels: Sequence[int], block: int) -> Slots:
    return np.pad(np.array(channels), (0, _up(len(channels), block) - len(channels)), constant_values=EMPTY)


class _Branch(HybridBlock):
    """(N, len(slots), H, W) -> the pieces that its last convolution writes, a list of (N, len(piece), H', W')."""

    def __init__(self, filters: Sequence[Filter], slots: Slots, pieces: Sequence[Slots], block: int):
        super().__init__()
        *first, last = filters
        self._ends = [] if block > 1 else np.cumsum([len(piece) for piece in pieces]).tolist()
        written = [np.concatenate(pieces)] if self._ends else pieces
        with self.name_scope():
            self.first, self.pieces = nn.HybridSequential(), nn.HybridSequential()
            for folded in first:
                if folded.groups > 1:
                    self.first.add(folded.channelwise(slots).layer())
                else:
                    hidden = _whole(range(len(folded.bias)), block)
                    self.first.add(folded.reading(slots).writing(hidden).layer())
                    slots = hidden
            for piece in written:
                self.pieces.add(last.reading(slots).writing(piece).layer())

    def hybrid_forward(self, F, x):
        y = self.first(x)
        made = [piece(y) for piece in self.pieces._children.values()]
        if len(self._ends) < 2:
            return made
        return [F.slice_axis(made[0], axis=1, begin=a, end=b) for a, b in zip([0, *self._ends], self._ends)]


class _Stage(HybridBlock):
    """`joined`: the numbers of the pieces that every branch but the first two reads, and of those that leave."""

    def __init__(self, branches: Sequence[_Branch], joined: Sequence[Sequence[int]]):
        super().__init__()
        self._joined = joined
        with self.name_scope():
            for branch in branches:
                self.register_child(branch)

    def hybrid_forward(self, F, x):
        proj, first, *further = self._children.values()
        pieces = [*proj(x), *first(x)]
        for branch, numbers in zip(further, self._joined):
            pieces += branch(F.concat(*(pieces[number] for number in numbers), dim=1))
        return F.concat(*(pieces[number] for number in self._joined[-1]), dim=1)
