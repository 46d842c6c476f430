"""The space of IdleBlocks in a network: a placement in place of its blocks, or IdleBlocks appended behind them."""

from __future__ import annotations

import functools
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from ..complexity import count_params
from ..models.idle import BASELINES, compose, idle_net, replaceable
from ..models.mbnet import Architecture, row_madds, row_params, table_madds
from ..models.mobilenetv3 import scale
from .space import Choice, Cost, Space

__all__ = ["AppendedSpace", "IdleSpace", "PlacementSpace"]

Path = Tuple[str, ...]

# A registered composition of each baseline, whose options can be replaced.
_MODELS = {
    "mobilenet_v3_large": "idle_mbv3_maximum",
    "mobilenet_v3_small": "idle_mbv3_small_maximum",
    "efficientnet_b0": "idle_efficientnet_b0_maximum",
}


class _IdleSpace(Space):
    """What both spaces share: the baseline, and its costs.

    Args:
        base: 'mobilenet_v3_large', 'mobilenet_v3_small' or 'efficientnet_b0'.
        options: Of the network: `multiplier`, `classes`, `stem_stride` ...
        image_size: At which multiply-adds are counted.

    Raises:
        ValueError: Another baseline.
    """

    def __init__(self, base: str, options: Optional[Dict[str, Any]] = None, image_size: int = 224):
        if base not in BASELINES:
            raise ValueError(f"there is no search for {base!r}: choose --base {', '.join(BASELINES)}")
        self.base, self.options, self.image_size = base, dict(options or {}), image_size
        arch = BASELINES[base]
        multiplier = self.options.get("multiplier")
        self.arch: Architecture = arch if multiplier is None else scale(arch, multiplier)
        self.stem_stride = self.options.get("stem_stride", 2)
        self.blocks: List[int] = replaceable(self.arch)
        if not self.blocks:
            raise ValueError(f"{base} has no block that an IdleBlock can replace")

    @functools.cached_property
    def _sides(self) -> List[int]:
        """Of the map that every block reads, in pixels."""
        side, sides = -(-self.image_size // self.stem_stride), []
        for row in self.arch.rows:
            sides.append(side)
            side = -(-side // row.stride)
        return sides

    @functools.cached_property
    def baseline_cost(self) -> Cost:
        """The cost of the network without IdleBlocks."""
        net = idle_net(self.base, **self.options)
        # The table begins with a stem of stride 2.
        size = self.image_size * 2 // self.stem_stride
        return Cost(count_params(net), table_madds(self.arch, size, net.num_classes, net.in_channels))

    def _block_cost(self, number: int, idle: bool) -> Tuple[int, int]:
        """Parameters and multiply-adds of a block, or of an IdleBlock with its row behind it or in its place."""
        row, width = self.arch.rows[number - 1], self.arch.inputs()[number - 1]
        side = self._sides[number - 1]
        if idle:
            side = -(-side // row.stride)
            shaped = compose(self.arch, append={number: 1}).rows[number]
            row, width = shaped, row.out
        return row_params(width, row), row_madds(width, row, side)


class PlacementSpace(_IdleSpace):
    """Each replaceable block stays, or becomes an IdleBlock: 2^n networks, 3^n with both sides.

    A choice has a value for each of `blocks`: 'own', 'left' or 'right'.

    Args:
        base, options, image_size: As above.
        sides: Which IdleBlocks there are.
    """

    def __init__(
        self,
        base: str,
        options: Optional[Dict[str, Any]] = None,
        image_size: int = 224,
        sides: Sequence[str] = ("left",),
    ):
        super().__init__(base, options, image_size)
        self.sides = tuple(sides)

    @property
    def positions(self) -> Sequence[Sequence[str]]:
        return [("own", *self.sides)] * len(self.blocks)

    @functools.cached_property
    def saved(self) -> List[Cost]:
        """What an IdleBlock saves in place of each of `blocks`: the table that costs are added up from."""
        costs = [(self._block_cost(number, False), self._block_cost(number, True)) for number in self.blocks]
        return [Cost(own[0] - idle[0], own[1] - idle[1]) for own, idle in costs]

    def cost(self, choice: Choice) -> Cost:
        saved = [cost for form, cost in zip(choice, self.saved) if form != "own"]
        base = self.baseline_cost
        return Cost(base.params - sum(c.params for c in saved), base.madds - sum(c.madds for c in saved))

    def placement(self, choice: Choice) -> Dict[int, str]:
        """The IdleBlocks of a choice: {number of the block: side}."""
        return {number: form for number, form in zip(self.blocks, choice) if form != "own"}

    def recipe(self, choice: Choice) -> Dict[str, Any]:
        options = {**self.options, "composition": self.placement(choice) or "none"}
        return {"model": _MODELS[self.base], "model_options": options}

    def label(self, choice: Choice) -> str:
        sides = {"left": "", "right": "R"}
        words = [f"{number}{sides[side]}" for number, side in self.placement(choice).items()]
        return " ".join(words) or "none"

    def whole(self) -> Dict[str, Any]:
        """The recipe of the network whose weights all choices share."""
        return self.recipe(("own",) * len(self.blocks))

    def path(self, choice: Choice) -> Path:
        """The choice as a path of `IdlePaths`."""
        placement = self.placement(choice)
        return tuple(placement.get(number, "own") for number in range(1, len(self.arch.rows) + 1))

    def greedy(self) -> List[Choice]:
        """The paper's *adjacent*: IdleBlocks one after the other from the input, none to all of them (*maximum*)."""
        number = len(self.blocks)
        return [(self.sides[0],) * idle + ("own",) * (number - idle) for idle in range(number + 1)]


class AppendedSpace(_IdleSpace):
    """All blocks stay, and a number of IdleBlocks is appended behind some of them; HC(M=15, I=20) is a choice of it.

    A choice has the number of IdleBlocks behind each block.

    Args:
        base, options, image_size: As above.
        num_idle: All IdleBlocks together, I.
        most: Of them behind one block.

    Raises:
        ValueError: There is no place for so many.
    """

    def __init__(
        self,
        base: str,
        options: Optional[Dict[str, Any]] = None,
        image_size: int = 224,
        num_idle: int = 20,
        most: int = 4,
    ):
        super().__init__(base, options, image_size)
        places = len(self.arch.rows)
        if not 1 <= num_idle <= most * places:
            raise ValueError(f"{num_idle} IdleBlocks have no place: at most {most} behind each of {places} blocks")
        self.num_idle, self.most = num_idle, most

    @property
    def positions(self) -> Sequence[Sequence[int]]:
        return [tuple(range(self.most + 1))] * len(self.arch.rows)

    @functools.cached_property
    def added(self) -> List[Cost]:
        """What an IdleBlock behind each block adds."""
        return [Cost(*self._block_cost(number, True)) for number in range(1, len(self.arch.rows) + 1)]

    def cost(self, choice: Choice) -> Cost:
        base = self.baseline_cost
        params = sum(number * cost.params for number, cost in zip(choice, self.added))
        madds = sum(number * cost.madds for number, cost in zip(choice, self.added))
        return Cost(base.params + params, base.madds + madds)

    def repaired(self, choice: Choice, random: np.random.RandomState) -> Choice:
        numbers = list(choice)
        while sum(numbers) != self.num_idle:
            step = 1 if sum(numbers) < self.num_idle else -1
            places = [place for place, number in enumerate(numbers) if 0 <= number + step <= self.most]
            numbers[places[random.randint(len(places))]] += step
        return tuple(numbers)

    def recipe(self, choice: Choice) -> Dict[str, Any]:
        append = {number: idle for number, idle in enumerate(choice, 1) if idle}
        return {"model": _MODELS[self.base], "model_options": {**self.options, "composition": "none", "append": append}}

    def label(self, choice: Choice) -> str:
        return " ".join(f"{number}+{idle}" for number, idle in enumerate(choice, 1) if idle)

    def whole(self) -> Dict[str, Any]:
        """The recipe of the network whose weights all choices share."""
        return self.recipe((self.most,) * len(self.arch.rows))

    def path(self, choice: Choice) -> Path:
        """The choice as a path of `IdlePaths`."""
        return tuple(form for idle in choice for form in ("own",) * (1 + idle) + ("out",) * (self.most - idle))


IdleSpace = Union[PlacementSpace, AppendedSpace]
