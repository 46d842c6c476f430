"""What a slimmable network and its views share: the widths of its blocks, and who chooses among them."""

from __future__ import annotations

from typing import Dict, Iterator, NamedTuple, Optional, Sequence, Set, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..nn.slimmable import WidthStatistics
from .base import ClassificationNet

__all__ = ["Gating", "PlannedNet", "Slot", "Step", "Widths"]


class Widths(NamedTuple):
    """Output channels of the stem and of every stage."""

    stem: int
    stages: Tuple[int, ...]


class Slot(NamedTuple):
    """Widths of the stem or a stage: those of the sub-networks, ascending, and that of the whole network.

    `choice` numbers the entry of a path that picks one of `widths`; None if there is a single one.
    """

    widths: Tuple[int, ...]
    largest: int
    choice: Optional[int] = None

    def at(self, path: Sequence[int]) -> int:
        return self.widths[0 if self.choice is None else path[self.choice]]


class Step(NamedTuple):
    """A block of a network: its numbers, the slots of its input (None: the image) and output, and its gate.

    `stage` counts the maps of `stage_info`, `number` the slots (0: the stem; None: the block has no Parameters),
    `place` the blocks of that slot. `gate` is the number of the slimming head that the block has, or None.
    """

    stage: int
    block: HybridBlock
    number: Optional[int]
    place: int
    before: Optional[Slot]
    slot: Slot
    gate: Optional[int]


class Gating(NamedTuple):
    """The slimming heads: candidates are the sub-networks `first_candidate` ... + `num_candidates` - 1.

    `heads`: 'shared', on the reduced feature of squeeze-and-excitation, or 'separate', each with its own reduction.
    `output`: 'one_hot', a logit for every candidate, or 'ratio', one number for how wide.
    """

    num_candidates: int = 4
    first_candidate: int = 0
    heads: str = "shared"
    output: str = "one_hot"


class PlannedNet(ClassificationNet):
    """A network whose blocks have slots; `SlimmableNet` adds the views.

    Attributes besides those of every network:

    gating : the slimming heads' numbers; None: without gates.
    gates : HybridSequential of the slimming heads.
    statistics : the BN statistics of the sub-networks where they differ from the largest network's.
    num_choices : number of choices that make a path (1 if all stages share theirs).
    """

    gating: Optional[Gating]
    gates: nn.HybridSequential
    statistics: WidthStatistics
    num_choices: int

    def _set_slots(self, slots: Sequence[Slot], slot_of: Sequence[Optional[int]], gating: Optional[Gating]) -> None:
        self._slots, self._slot_of, self.gating = tuple(slots), tuple(slot_of), gating
        self.num_choices = 1 + max(slot.choice for slot in slots if slot.choice is not None)

    def widths_at(self, path: Sequence[int]) -> Widths:
        """Return the widths that a path, one index per choice, stands for."""
        stem, *stages = (slot.at(path) for slot in self._slots)
        return Widths(stem, tuple(stages))

    def steps(self) -> Iterator[Step]:
        """Yield the blocks of the stages in order."""
        blocks = ((stage, block) for stage, blocks in enumerate(self.stages) for block in blocks._children.values())
        before: Optional[Slot] = None
        gated: Set[Optional[int]] = set()
        counts: Dict[Optional[int], int] = {}
        for (stage, block), number in zip(blocks, self._slot_of):
            slot = before if number is None else self._slots[number]
            assert slot is not None, "the stem has Parameters"
            gate = slot.choice if self.gating is not None and slot.choice not in gated else None
            gated.add(gate)
            counts[number] = counts.get(number, -1) + 1
            yield Step(stage, block, number, counts[number], before, slot, gate)
            before = slot

    def candidates(self, slot: Slot) -> Tuple[int, ...]:
        """Return the widths of a slot among which the gates choose. Only for networks with gates."""
        assert self.gating is not None
        start = self.gating.first_candidate
        return slot.widths if slot.choice is None else slot.widths[start : start + self.gating.num_candidates]
