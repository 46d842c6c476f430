"""The network in which DARTS searches: on every edge of a cell all operations at once, each with its weight.

Source: DARTS, arXiv 1806.09055, `model_search.py` of its repository.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import Parameter

from ..files.text import shortened
from ..nn import OPERATIONS, Norm, concat_channels, make_operation
from ..nn.cell_operations import chain, is_pooling
from ..nn.channels import check_positive
from .cellnet import Cell, CellNet, CellRow, Place
from .darts import PAPER
from .genotype import Edge, Genotype
from .registry import register_model

__all__ = ["SPACES", "MixedCell", "SearchNet", "chosen_edges", "darts_search", "operations_of", "shares_of"]

_DARTS = tuple(name for name in OPERATIONS if name != "sandglass_3x3")
# The operations of an edge, 'none' first. A further space is an entry here; a further operation is one of `OPERATIONS`.
SPACES: Dict[str, Tuple[str, ...]] = {"darts": _DARTS, "darts_sandglass": (*_DARTS, "sandglass_3x3")}
_START = 1e-3  # standard deviation of the architecture weights


def operations_of(space: str) -> Tuple[str, ...]:
    """Return the operations of a space.

    Raises:
        ValueError: There is no such space, or it is empty.
    """
    if space not in SPACES:
        raise ValueError(f"there is no space {shortened(space)}: choose one of {', '.join(SPACES)}")
    if not set(SPACES[space]) - {"none"}:
        raise ValueError(f"the space {space} has no operation, so that there is nothing to search in it")
    return SPACES[space]


def num_edges(nodes: int) -> int:
    """The edges of a cell in which every node reads all maps before it."""
    return sum(node + 2 for node in range(nodes))


class MixedCell(Cell):
    """A cell with all operations on all edges: two maps and weights (edges, operations) -> the nodes, joined.

    Its BN layers learn nothing, so that no operation can make up for its weight; one stands behind each pooling.

    Args:
        operations: Of every edge.
        nodes: Of the cell.
        sandglass_ratio: Channels to those of the bottleneck of a SandGlass block.
        place: Where it stands.
        norm: How BN layers are made.
    """

    def __init__(
        self, operations: Tuple[str, ...], nodes: int, sandglass_ratio: int, place: Place, norm: Norm, **kwargs
    ):
        norm = norm._replace(kwargs={**norm.kwargs, "scale": False, "center": False})
        super().__init__(place, norm, **kwargs)
        self._names, self._nodes = operations, nodes
        self._edges: List[List[Any]] = []
        with self.name_scope():
            for node in range(nodes):
                for source in range(node + 2):
                    stride = 2 if place.reduces and source < 2 else 1
                    blocks = [self._make(name, place.channels, stride, norm, sandglass_ratio) for name in operations]
                    self._edges.append(blocks)

    def _make(self, name: str, channels: int, stride: int, norm: Norm, ratio: int) -> Any:
        """An operation as a child of this cell; None for 'none' and for the identity."""
        block = None if name == "none" else make_operation(name, channels, stride, norm, ratio)
        if block is not None:
            block = chain(block, norm(channels)) if is_pooling(name) else block
            self.register_child(block)
        return block

    def hybrid_forward(self, F, first, second, weights):
        maps = [self.first(first), self.second(second)]
        # 'none' is the first one, and takes its share alone.
        weights = F.slice_axis(weights, axis=1, begin=1, end=None)
        number = len(self._edges) * (len(self._names) - 1)
        shares = iter(F.split(F.reshape(weights, (1, -1, 1, 1)), num_outputs=number, axis=1))
        edges = iter(self._edges)
        for _ in range(self._nodes):
            terms = []
            for x in maps:
                for name, block in zip(self._names, next(edges)):
                    if name != "none":
                        terms.append(F.broadcast_mul(x if block is None else block(x), next(shares)))
            maps.append(F.add_n(*terms))
        return concat_channels(F, *maps[2:]) if len(maps) > 3 else maps[2]


class SearchNet(CellNet):
    """Cells of all operations; the weights of their edges, one matrix for all normal and one for all reduction cells.

    These two Parameters, `normal` and `reduce`, have no gradient for an optimizer of the network: the task `darts`
    changes them.

    Args:
        space: A name of `SPACES`.
        nodes: Of a cell.
        sandglass_ratio: Channels to those of the bottleneck of a SandGlass block.
        channels, layers: See `CellNet`.
        options: Those of `CellNet`.

    Raises:
        ValueError: An unknown space, and what `CellNet` refuses.
    """

    def __init__(
        self,
        space: str = "darts",
        *,
        nodes: int = 4,
        sandglass_ratio: int = 4,
        channels: int = 16,
        layers: int = 8,
        **options: Any,
    ):
        self.operations, self._space, self._nodes = operations_of(space), space, nodes
        check_positive("nodes", nodes)
        check_positive("sandglass_ratio", sandglass_ratio)

        def make(place: Place, norm: Norm) -> MixedCell:
            return MixedCell(self.operations, nodes, sandglass_ratio, place, norm)

        super().__init__(make, nodes, channels=channels, layers=layers, **options)
        shape, start = (num_edges(nodes), len(self.operations)), mx.init.Normal(_START)
        with self.name_scope():
            self.normal = self.params.get("normal", shape=shape, init=start, grad_req="null")
            self.reduce = self.params.get("reduce", shape=shape, init=start, grad_req="null")

    def hybridize(self, active=True, backend=None, clear=True, *args, **kwargs):
        """As of all networks, but never with static shapes.

        Many operations read one map here. MXNet 1.9.1 adds more than eight gradients of a map up in place
        (MXNET_EXEC_INPLACE_GRAD_SUM_CAP), and in a graph of static shapes the sum is wrong, by up to 1e30.
        """
        super().hybridize(active, backend, clear, *args, **{**kwargs, "static_shape": False})

    @property
    def architecture(self) -> List[Parameter]:
        """The architecture weights: (edges, operations) of the normal cells and of the reduction cells."""
        return [self.normal, self.reduce]

    @property
    def genotype(self) -> Genotype:
        """The cells that the architecture weights choose now."""
        return Genotype(*(chosen_edges(param.data().asnumpy(), self.operations) for param in self.architecture))

    def definition(self) -> Dict[str, Any]:
        return {**super().definition(), "space": self._space, "nodes": self._nodes}

    def hybrid_forward(self, F, x, normal, reduce):
        shares = F.softmax(normal, axis=-1), F.softmax(reduce, axis=-1)
        for stage in self.stages:
            for block in stage._children.values():
                x = block(x, *shares) if isinstance(block, CellRow) else block(x)
        return self.output(self.features[-1](x))


def shares_of(weights: np.ndarray) -> np.ndarray:
    """The softmax over the operations of each edge."""
    powers = np.exp(weights - weights.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def chosen_edges(weights: np.ndarray, operations: Tuple[str, ...]) -> Tuple[Edge, ...]:
    """Return the edges that a cell keeps: for each node the two whose strongest operation has the largest share.

    'none' takes part in the softmax, but is never chosen. The stronger edge stands first; of equals, the first one.

    Args:
        weights: Architecture weights of a cell, (edges, operations).
        operations: Their names.
    """
    shares = shares_of(np.asarray(weights, np.float64))
    shares[:, [place for place, name in enumerate(operations) if name == "none"]] = -1
    best, first, chosen = shares.max(axis=1), 0, []
    node = 0
    while first < len(shares):
        sources = sorted(range(node + 2), key=lambda source: -best[first + source])[:2]  # noqa: B023, called here alone
        chosen += [Edge(operations[int(shares[first + source].argmax())], source) for source in sources]
        first, node = first + node + 2, node + 1
    return tuple(chosen)


@register_model(family="darts", paper=PAPER, input_size=32, classes=10, hidden=True)
def darts_search(**options) -> SearchNet:
    """The network in which the task darts searches for cells; it is trained for these alone."""
    return SearchNet(**options)
