"""The space of DARTS cells: for every node two operations, each on one of the maps before it."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np

from ..complexity import count
from ..models import get_model
from ..models.darts_search import operations_of, shares_of
from ..models.genotype import Edge, Genotype
from .space import Choice, Cost, Space

__all__ = ["CellSpace", "share_of"]

_SHORT = {
    "max_pool_3x3": "max",
    "avg_pool_3x3": "avg",
    "skip_connect": "skip",
    "sep_conv_3x3": "sep3",
    "sep_conv_5x5": "sep5",
    "dil_conv_3x3": "dil3",
    "dil_conv_5x5": "dil5",
    "sandglass_3x3": "glass",
}


class CellSpace(Space):
    """A normal and a reduction cell; a choice has operation and map of each of their edges, one after the other.

    Args:
        space: A name of `gluon_effnets.models.darts_search.SPACES`.
        nodes: Of a cell.
        options: Of the network that a choice is costed and trained as: `channels`, `layers`, `sandglass_ratio` ...
        image_size: At which multiply-adds are counted.

    Raises:
        ValueError: There is no such space.
    """

    def __init__(self, space: str, nodes: int = 4, options: Any = None, image_size: int = 32):
        self.operations = tuple(name for name in operations_of(space) if name != "none")
        self.nodes, self.options, self.image_size = nodes, dict(options or {}), image_size

    @property
    def positions(self) -> Sequence[Sequence[Any]]:
        of_cell: List[Sequence[Any]] = []
        for node in range(self.nodes):
            of_cell += [self.operations, tuple(range(node + 2))] * 2
        return of_cell * 2

    def repaired(self, choice: Choice, random: np.random.RandomState) -> Choice:
        values = list(choice)
        for first in range(0, len(values), 4):
            if values[first + 1] == values[first + 3]:
                others = [source for source in self.positions[first + 3] if source != values[first + 1]]
                values[first + 3] = others[random.randint(len(others))]
        return tuple(values)

    def genotype(self, choice: Choice) -> Genotype:
        """The cells of a choice."""
        edges = [Edge(*choice[place : place + 2]) for place in range(0, len(choice), 2)]
        half = len(edges) // 2
        return Genotype(tuple(edges[:half]), tuple(edges[half:]))

    def choice_of(self, genotype: Genotype) -> Choice:
        """The choice of some cells.

        Raises:
            ValueError: They have other operations, or another number of nodes.
        """
        edges = [*genotype.normal, *genotype.reduce]
        unknown = [edge.operation for edge in edges if edge.operation not in self.operations]
        if unknown or genotype.nodes != self.nodes:
            what = f"the operation {unknown[0]}" if unknown else f"{genotype.nodes} nodes"
            raise ValueError(f"these cells have {what}, which this space does not have")
        return tuple(value for edge in edges for value in edge)

    def cost(self, choice: Choice) -> Cost:
        recipe = self.recipe(choice)
        found = count(get_model(recipe["model"], **recipe["model_options"]), self.image_size)
        return Cost(found.params, found.madds)

    def recipe(self, choice: Choice) -> Dict[str, Any]:
        options = {**self.options, "genotype": self.genotype(choice).as_dict()}
        return {"model": "darts_cells", "model_options": options}

    def label(self, choice: Choice) -> str:
        cells = self.genotype(choice)
        return " / ".join(" ".join(f"{_SHORT[edge.operation]}:{edge.source}" for edge in cell) for cell in cells)


def share_of(genotype: Genotype, normal: np.ndarray, reduce: np.ndarray, operations: Sequence[str]) -> float:
    """The mean share that architecture weights give the operations of some cells, on the edges where these have them.

    Args:
        genotype: The cells.
        normal, reduce: Architecture weights, (edges, operations).
        operations: Their names.
    """
    found = []
    for edges, weights in zip(genotype, (normal, reduce)):
        shares = shares_of(np.asarray(weights, np.float64))
        for place, edge in enumerate(edges):
            node = place // 2
            first = sum(earlier + 2 for earlier in range(node))
            found.append(shares[first + edge.source, list(operations).index(edge.operation)])
    return float(np.mean(found))
