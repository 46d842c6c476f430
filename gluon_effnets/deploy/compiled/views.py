"""Maps of the compiled operator: which channel stands where, so that parts, joints and shuffles cost nothing."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

__all__ = ["LANES", "Block", "Run", "View", "joined", "runs_of"]

LANES = 16

Block = Tuple[int, int]  # a tensor, and the number of 16 channels of it
Run = Tuple[int, int, int]  # a tensor, the first of consecutive channels or blocks, and their number


class View(NamedTuple):
    """Channels of maps of one size.

    Parameters
    ----------
    tensors, lanes : where each channel stands, arrays of one shape: (C,), or one that shuffles have made of it. Tensor
        0 are the images, tensor -1 are zeros.
    height, width : of the maps.
    flat : whether channels, height and width are one axis.
    """

    tensors: np.ndarray
    lanes: np.ndarray
    height: int
    width: int
    flat: bool = False

    @classmethod
    def of(cls, tensor: int, lanes, height: int, width: int) -> View:
        """Channels of one tensor."""
        lanes = np.asarray(lanes)
        return cls(np.full(lanes.shape, tensor), lanes, height, width)

    @property
    def channels(self) -> int:
        """How many they are."""
        return self.tensors.size

    def taken(self, index) -> View:
        """The channels of an index of NumPy."""
        return self._replace(tensors=self.tensors[index], lanes=self.lanes[index])

    def reshaped(self, shape: Sequence[int]) -> Optional[View]:
        """What a reshape makes of it, by the sizes of all axes but the first; None if it mixes channels and pixels."""
        pixels = self.height * self.width
        if pixels > 1 and tuple(shape) == (self.channels * pixels,) and self.tensors.ndim == 1:
            return self._replace(flat=True)
        for split in range(1, len(shape) + 1):
            if np.prod(shape[:split]) == self.channels and np.prod(shape[split:]) == pixels and not self.flat:
                sizes = tuple(shape[:split])
                return self._replace(tensors=self.tensors.reshape(sizes), lanes=self.lanes.reshape(sizes))
        return None

    def swapped(self, one: int, other: int) -> Optional[View]:
        """What a swap of two axes makes of it; None for axes that are not of channels."""
        if min(one, other) < 1 or max(one, other) > self.tensors.ndim:
            return None
        axes = one - 1, other - 1
        return self._replace(tensors=self.tensors.swapaxes(*axes), lanes=self.lanes.swapaxes(*axes))

    def runs(self) -> List[Run]:
        """The channels one behind the other."""
        return runs_of(list(zip(self.tensors.ravel().tolist(), self.lanes.ravel().tolist())))

    def blocks(self) -> Tuple[List[Block], np.ndarray]:
        """The blocks that they stand in, and the place of every channel if these are put one behind the other."""
        places = list(zip(self.tensors.tolist(), (self.lanes // LANES).tolist()))
        order = {block: number for number, block in enumerate(dict.fromkeys(places))}
        return list(order), np.array([order[block] for block in places]) * LANES + self.lanes % LANES

    def blocks_at(self, places: np.ndarray, count: int) -> Optional[List[Block]]:
        """The blocks that, one behind the other, have every channel at its place; None: there are none."""
        if self.tensors.ndim != 1 or (self.lanes % LANES != places % LANES).any():
            return None
        found: List[Optional[Block]] = [None] * count
        for place, tensor, lane in zip(places.tolist(), self.tensors.tolist(), self.lanes.tolist()):
            block = (tensor, lane // LANES)
            if found[place // LANES] not in (None, block):
                return None
            found[place // LANES] = block
        return None if None in found else [block for block in found if block is not None]


def joined(views: Sequence[View]) -> View:
    """The channels of several, one behind the other."""
    tensors, lanes = (np.concatenate([view[i] for view in views]) for i in (0, 1))
    return views[0]._replace(tensors=tensors, lanes=lanes)


def runs_of(places: Sequence[Tuple[int, int]]) -> List[Run]:
    runs: List[Run] = []
    for tensor, place in places:
        if runs and runs[-1][0] == tensor and (tensor < 0 or sum(runs[-1][1:]) == place):
            runs[-1] = (tensor, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((tensor, max(place, 0), 1))
    return runs
