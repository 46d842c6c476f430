"""Space: what can be chosen, what a choice costs, and the network that it is."""

from __future__ import annotations

import itertools
import math
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

__all__ = ["Choice", "Cost", "Space"]

Choice = Tuple[Any, ...]


class Cost(NamedTuple):
    """Parameters, and multiply-adds for one image.

    Attributes:
        params: Number of trained values.
        madds: Multiply-adds for one image.
    """

    params: int
    madds: int


class Space:
    """Networks that are told by a value for each of some positions.

    A subclass gives `positions`, `cost`, `recipe` and `label`; where values depend on one another, `repaired` too.
    """

    @property
    def positions(self) -> Sequence[Sequence[Any]]:
        """The values that each position can have: texts or numbers."""
        raise NotImplementedError

    def cost(self, choice: Choice) -> Cost:
        """What the network of a choice costs; without building it where that is possible."""
        raise NotImplementedError

    def recipe(self, choice: Choice) -> Dict[str, Any]:
        """The keys `model` and `model_options` of a recipe that trains the network of a choice."""
        raise NotImplementedError

    def label(self, choice: Choice) -> str:
        """A choice in a few characters, for tables."""
        raise NotImplementedError

    def repaired(self, choice: Choice, random: np.random.RandomState) -> Choice:
        """The nearest choice that the space has; drawn where there are several."""
        return choice

    @property
    def size(self) -> int:
        """The number of choices, before any is repaired."""
        return math.prod(len(values) for values in self.positions)

    def all(self) -> Iterator[Choice]:
        """All choices, in a fixed order."""
        return itertools.product(*self.positions)

    def sample(self, random: np.random.RandomState) -> Choice:
        """Draw a choice, uniformly before it is repaired."""
        return self.repaired(tuple(values[random.randint(len(values))] for values in self.positions), random)

    def mutated(self, choice: Choice, probability: float, random: np.random.RandomState) -> Choice:
        """Draw each position anew with a probability."""
        values: List[Any] = []
        for value, others in zip(choice, self.positions):
            values.append(others[random.randint(len(others))] if random.rand() < probability else value)
        return self.repaired(tuple(values), random)

    def crossed(self, one: Choice, other: Choice, random: np.random.RandomState) -> Choice:
        """Draw each position from one of two choices."""
        return self.repaired(tuple(pair[random.randint(2)] for pair in zip(one, other)), random)
