"""Genotype: two cells of DARTS, as lists of operations and of the maps that these read."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple, Union

from ..files.schema import list_of, record
from ..files.text import shortened
from ..nn import OPERATIONS

__all__ = ["Edge", "Genotype", "read_genotype"]

_MOST_NODES = 16


class Edge(NamedTuple):
    """A term of a node: an operation, and the number of the map that it reads.

    Maps 0 and 1 are the outputs of the last cell but one and of the last cell, 2 is that of the first node.
    """

    operation: str
    source: int


class Genotype(NamedTuple):
    """The normal cell and the reduction cell: two edges for each node, node after node."""

    normal: Tuple[Edge, ...]
    reduce: Tuple[Edge, ...]

    @property
    def nodes(self) -> int:
        """The nodes of a cell, all of which are its output."""
        return len(self.normal) // 2

    def as_dict(self) -> Dict[str, List[List[Any]]]:
        """As files have it."""
        return {cell: [list(edge) for edge in edges] for cell, edges in self._asdict().items()}

    def text(self) -> str:
        """The file, YAML with a line for each node."""
        lines = ["# Cells of DARTS: [operation, the map that it reads], two for a node; maps 0 and 1 are the inputs."]
        for cell, edges in self._asdict().items():
            lines.append(f"{cell}:")
            lines += [f"- [{edge.operation}, {edge.source}]" for edge in edges]
        return "\n".join(lines) + "\n"


def read_genotype(given: Union[str, PurePath, Mapping[str, Any], Genotype], where: str = "genotype") -> Genotype:
    """Make a genotype of what a recipe or a file says.

    Args:
        given: A genotype, its two lists, or the path of a YAML or JSON file with these.
        where: What messages call it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: An unknown operation, a map that does not exist yet, or cells of different sizes.
    """
    if isinstance(given, Genotype):
        return given
    if isinstance(given, (str, PurePath)):
        where = str(given)
        if not PurePath(where).suffix:
            raise ValueError(f"genotype is {shortened(where)}; it must be a YAML or JSON file, or two lists of edges")
        from ..files.yaml_text import read_yaml  # networks without a file need no YAML

        given = read_yaml(where, "genotype")
    plain: Any = {key: _lists(value) for key, value in given.items()} if isinstance(given, Mapping) else given
    _FILE(plain, where)
    cells = {cell: tuple(Edge(*edge) for edge in edges) for cell, edges in plain.items()}
    if len(cells["normal"]) != len(cells["reduce"]):
        sizes = ", ".join(map(_size, plain.values()))
        raise ValueError(f"{where}: both cells must have as many nodes; they have {sizes}")
    return Genotype(**cells)


def _size(edges: List) -> str:
    return f"{len(edges) / 2:g}"


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _edge(value: Any, where: str) -> None:
    """Allow [operation, number]."""
    if not (isinstance(value, list) and len(value) == 2 and type(value[1]) is int):
        raise ValueError(f"{where} is {shortened(value)}; it must be [operation, number of a map]")
    names = [name for name, make in OPERATIONS.items() if make is not None]
    if value[0] not in names:
        raise ValueError(f"{where} has the operation {shortened(value[0])}; there are {', '.join(names)}")


def _cell(value: Any, where: str) -> None:
    """Allow two edges for each node, from inputs and nodes before it."""
    list_of(_edge, 2, 2 * _MOST_NODES)(value, where)
    if len(value) % 2:
        raise ValueError(f"{where} has {len(value)} edges; there must be two for each node")
    for place, (_, source) in enumerate(value):
        if not 0 <= source < place // 2 + 2:
            raise ValueError(f"{where}[{place}] reads map {source}; node {place // 2} can read 0 to {place // 2 + 1}")


_FILE = record({"normal": _cell, "reduce": _cell})
