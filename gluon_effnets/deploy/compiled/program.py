"""The program of the compiled operator `effnets_network`, step by step, with its weights in the operator's order.

What a row of the program holds is written in `native/inference/program.h`.
"""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

from .views import LANES, Block, Run, View, runs_of

__all__ = ["ACTS", "Kernel", "ProgramBuilder", "Step"]

ACTS = ("none", "relu", "relu6", "hard_swish", "swish", "sigmoid", "hard_sigmoid")
_INPUT, _CONV, _DEPTHWISE, _POOL, _COMBINE, _SELECT, _OUTPUT = range(7)
POOLS = ("mean", "mean_inside", "max", "global")
COMBINATIONS = ("add", "multiply", "scale")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Sides, strides, distances of taps, vertical and horizontal; zeros around the map: top, left, bottom, right."""

    sides: Tuple[int, int] = (1, 1)
    strides: Tuple[int, int] = (1, 1)
    steps: Tuple[int, int] = (1, 1)
    pad: Tuple[int, ...] = (0, 0, 0, 0)

    def numbers(self) -> List[int]:
        """As rows have them."""
        return [*self.sides, *self.strides, *self.steps, *self.pad]


@dataclasses.dataclass
class Step:
    """A row of the program that may still get an activation or a sum. `other`: blocks that are added."""

    number: int
    head: List[int]
    tail: List[int]
    takes_sum: bool = True
    act: str = "none"
    late: str = "none"
    other: Optional[List[Block]] = None

    def row(self) -> List[int]:
        """All its numbers."""
        acts = [ACTS.index(self.act), ACTS.index(self.late)]
        if not self.takes_sum:
            return [*self.head, acts[1], *self.tail]
        more = [0] if self.other is None else [1, *_counted(runs_of(self.other))]
        return [*self.head, *acts, *self.tail, *more]


class ProgramBuilder:
    """Steps one after the other; each method adds one, and returns its number, the tensor that it makes."""

    def __init__(self, channels: int):
        self._scale, self._shift = np.ones(channels), np.zeros(channels)
        self._rows: List[Union[Step, List[int]]] = [[_INPUT, channels, 0]]
        # What stands for the input is filled in at the end.
        self._weights: List[np.ndarray] = [np.zeros(2 * channels + -2 * channels % LANES, np.float32)]
        self._size = self._weights[0].size

    def text(self) -> str:
        """The program as the operator takes it."""
        rows = (row.row() if isinstance(row, Step) else row for row in self._rows)
        return "".join(" ".join(map(str, row)) + ";" for row in rows)

    def weights(self) -> np.ndarray:
        """All weights, (n,) float32."""
        channels = len(self._scale)
        self._weights[0][: 2 * channels] = np.concatenate([self._scale, self._shift])
        return np.concatenate(self._weights)

    def scale_input(self, scale: np.ndarray, shift: np.ndarray) -> None:
        """Multiply every channel of the images, (C,), and add."""
        self._scale, self._shift = self._scale * scale, self._shift * scale + shift

    def conv(
        self,
        groups: Sequence[Tuple[int, Sequence[Run]]],
        weights: Sequence[np.ndarray],
        bias: np.ndarray,
        kernel: Kernel,
    ) -> Step:
        """A convolution.

        Parameters
        ----------
        groups : blocks of outputs that read the same channels, and these.
        weights : of each group, (outputs, channels, sides), where only the last group's outputs may fill no block.
        bias : (C,).
        """
        packed = []
        for (blocks, _), values in zip(groups, weights):
            values = values.reshape(len(values), -1)
            full = np.zeros((blocks * LANES, values.shape[1]), np.float32)
            full[: len(values)] = values
            packed.append(full.reshape(blocks, LANES, -1).transpose(0, 2, 1).ravel())
        place = self._store([*packed, _padded(bias)])
        rows = [number for blocks, runs in groups for number in (blocks, *_counted(runs))]
        head = [_CONV, len(bias), place, *kernel.numbers()]
        return self._add(Step(len(self._rows), head, [len(groups), *rows]))

    def depthwise(self, blocks: Sequence[Block], weight: np.ndarray, bias: np.ndarray, kernel: Kernel) -> Step:
        """A convolution of every channel of blocks by itself: weight (16 * blocks, sides), bias (16 * blocks,)."""
        values = weight.reshape(len(blocks), LANES, -1).transpose(0, 2, 1).ravel()
        place = self._store([values, bias])
        head = [_DEPTHWISE, len(blocks) * LANES, place, *kernel.numbers()]
        return self._add(Step(len(self._rows), head, _counted(runs_of(blocks))))

    def pool(self, blocks: Sequence[Block], how: str, kernel: Kernel, hangs_over: bool) -> int:
        """Means or maxima of windows, whose last may hang over the padding."""
        numbers = [POOLS.index(how), *kernel.numbers(), int(hangs_over)]
        return self._add_row([_POOL, len(blocks) * LANES, *numbers, *_counted(runs_of(blocks))])

    def combine(self, how: str, blocks: Sequence[Block], other: Sequence[Block]) -> Step:
        """Sum or product of two maps, or of a map and one number for each channel."""
        head = [_COMBINE, len(blocks) * LANES, COMBINATIONS.index(how)]
        tail = [*_counted(runs_of(blocks)), *_counted(runs_of(other))]
        return self._add(Step(len(self._rows), head, tail, takes_sum=False))

    def select(self, sources: Sequence[Tuple[int, int]]) -> int:
        """A tensor with channels of others, (tensor, channel) each; tensor -1: zeros."""
        return self._add_row([_SELECT, len(sources), *_counted(runs_of(sources))])

    def output(self, view: View, flat: bool) -> None:
        """A result, (N, C) if it is `flat`, else maps."""
        self._add_row([_OUTPUT, view.channels, int(flat), *_counted(view.runs())])

    def _store(self, arrays: Sequence[np.ndarray]) -> int:
        place = self._size
        for array in arrays:
            self._weights.append(np.asarray(array, np.float32))
            self._size += array.size
        return place

    def _add(self, step: Step) -> Step:
        self._rows.append(step)
        return step

    def _add_row(self, row: List[int]) -> int:
        self._rows.append(row)
        return len(self._rows) - 1


def _counted(runs: Sequence[Run]) -> List[int]:
    return [len(runs), *(number for run in runs for number in run)]


def _padded(values: np.ndarray) -> np.ndarray:
    return np.pad(values, (0, -len(values) % LANES))
