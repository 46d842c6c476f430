"""Strategies: which choices of a space are scored. All of them can be killed and go on, by the scorer's journal."""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict, List

import numpy as np

from ..progress import progress_bar
from .space import Choice, Space

__all__ = ["Evolution", "enumerate_all", "evolve"]

Scorer = Callable[[Choice], Dict[str, float]]
Fits = Callable[[Choice], bool]
_PATIENCE = 1000  # draws per network that a generation lacks


def enumerate_all(space: Space, fits: Fits) -> List[Choice]:
    """Return all choices that fit.

    Args:
        space: The space.
        fits: Whether a choice may be taken.

    Raises:
        ValueError: None does.
    """
    found = [choice for choice in space.all() if fits(choice)]
    if not found:
        raise ValueError(f"none of the {space.size} networks fits: give a larger --budget")
    return found


@dataclasses.dataclass(frozen=True)
class Evolution:
    """Numbers of an evolution; those of SPOS's code by default.

    Attributes:
        generations: Number of generations.
        population: Choices in a generation.
        parents: The best, which make the next generation.
        crossovers, mutations: Children of either kind.
        probability: Of a changed place in a mutation.
        seed: Of the draws.

    Source: Single Path One-Shot (arXiv 1904.00420), src/Search/search.py of its repository.
    """

    generations: int = 20
    population: int = 50
    parents: int = 10
    crossovers: int = 25
    mutations: int = 25
    probability: float = 0.1
    seed: int = 0

    def __post_init__(self):
        for name in ("generations", "population", "parents"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; an evolution needs at least 1")
        if self.parents > self.population:
            raise ValueError(f"parents is {self.parents}, above the population of {self.population}")
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability is {self.probability:g}; it must be above 0 and at most 1")


def evolve(space: Space, scorer: Scorer, score: str, fits: Fits, numbers: Evolution = Evolution()) -> List[Choice]:
    """Return the choices that were scored, the best first.

    The seed decides every draw, so that an evolution that is started again repeats its draws, finds their scores in the
    journal, and goes on.

    Args:
        space: What is searched.
        scorer: Gives the scores of a choice.
        score: The key of the score that is to be large.
        fits: Whether a choice may be taken; others are drawn again.
        numbers: Of the evolution.

    Raises:
        ValueError: No choice that fits was found in a thousand draws.
    """
    random, seen = np.random.RandomState(numbers.seed), {}
    kept: List[Choice] = []

    def fill(target: int, draw: Callable[[], Choice]) -> List[Choice]:
        found: List[Choice] = []
        for _ in range(_PATIENCE * max(1, target)):
            if len(found) == target:
                break
            choice = draw()
            if choice not in seen and choice not in found and fits(choice):
                found.append(choice)
        return found

    population = fill(numbers.population, lambda: space.sample(random))
    if not population:
        raise ValueError(f"no network of {_PATIENCE * numbers.population} drawn ones fits: give a larger --budget")
    with progress_bar(total=numbers.generations * numbers.population, desc="evolution", unit=" networks") as bar:
        for _ in range(numbers.generations):
            for choice in population:
                seen[choice] = scorer(choice)[score]
                bar.update()
            kept = sorted(seen, key=lambda choice: -seen[choice])[: numbers.parents]

            def parent() -> Choice:
                return kept[random.randint(len(kept))]  # noqa: B023, called within this generation alone

            population = fill(numbers.mutations, lambda: space.mutated(parent(), numbers.probability, random))
            crossed = fill(numbers.crossovers, lambda: space.crossed(parent(), parent(), random))
            population += [choice for choice in crossed if choice not in population]
            missing = numbers.population - len(population)
            drawn = fill(max(0, missing), lambda: space.sample(random))
            population = (population + [choice for choice in drawn if choice not in population])[: numbers.population]
    return sorted(seen, key=lambda choice: -seen[choice])
