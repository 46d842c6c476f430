"""Graphs of MXNet in files (-symbol.json): followed from node to node before MXNet sees them.

MXNet runs whatever a graph names, its own test operators and callbacks into Python among it, and believes every number:
a pointer in a text, a stride of 0 or an input that does not exist end the process. So a graph may have the operators
alone that the exports of this package have, with settings of known form and range (`symbol_operators`), and what MXNet
gets is written anew from what was checked.
"""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, Sequence

from .._mxnet import mx
from .regular import UnreadableFileError, read_bytes
from .schema import Check, list_of, one_of, record, table_of, text, whole
from .side_json import parse_json
from .symbol_operators import OPERATORS, TRUSTED, WITH_SUBGRAPH, ForeignOperatorError, Node, check_subgraph
from .text import shortened

__all__ = ["check_graph", "check_memory", "load_symbol"]

_MOST_BYTES = 1 << 25
_MOST_NODES, _MOST_INPUTS, _MOST_OUTPUTS = 50_000, 1000, 256
_MOST_VALUES = 1 << 28  # of one output of a node, for one image

_anything: Check = lambda value, where: None  # noqa: E731
_INDEX = whole(0, _MOST_NODES)
_ENTRY = list_of(_INDEX, 2, 3)
_NODE = record(
    {"op": text(100), "name": text(1000), "inputs": list_of(_ENTRY, most=_MOST_INPUTS)},
    {"attrs": table_of(text(1000), 50), "subgraphs": list_of(_anything, 1, 1)},
)
_PARTS = {"nodes": list_of(_NODE, 1, _MOST_NODES), "heads": list_of(_ENTRY, 1, _MOST_OUTPUTS)}
_OTHERS = {"arg_nodes": list_of(_INDEX), "node_row_ptr": list_of(whole(0, 1 << 24)), "attrs": table_of(_anything, 5)}
_GRAPH = record({**_PARTS, "arg_nodes": _OTHERS["arg_nodes"]}, _OTHERS)


def load_symbol(path, trust: bool = False) -> mx.sym.Symbol:
    """Return the graph in a file of MXNet.

    Args:
        path: <prefix>-symbol.json.
        trust: Whether operators and settings that no export of this package has are allowed: some run code.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no such file, cut short, or holds what is not allowed.
    """
    content = read_bytes(path, "graph", _MOST_BYTES)
    try:
        graph = check_graph(parse_json(content, "it"), trust)
    except ForeignOperatorError as error:
        remedy = "if you made it yourself, or trust who did, add --trust-library or trust=True"
        raise UnreadableFileError(path, f"is refused as a graph for MXNet: {error}; {remedy}") from None
    except ValueError as error:
        raise UnreadableFileError(path, f"is no graph for MXNet, or is cut short: {error}") from None
    try:
        return mx.sym.load_json(json.dumps(graph))
    except mx.base.MXNetError:
        raise UnreadableFileError(path, "is no graph that this version of MXNet can read") from None


def check_memory(symbol: mx.sym.Symbol, path, image: Sequence[int]) -> None:
    """Raise ValueError for a graph that one image makes too large for a memory, or whose shapes do not fit together.

    Args:
        symbol: With the input `data`.
        path: How messages name it.
        image: The shape of one image, (channels, height, width), or of a map.
    """
    try:
        # The public function prints what it was given.
        _, shapes, _ = symbol.get_internals()._infer_shape_impl(False, data=(1, *image))
    except (mx.base.MXNetError, ValueError):
        raise UnreadableFileError(path, f"is no graph for images of {' x '.join(map(str, image))}") from None
    if any(not all(shape) or math.prod(shape) > _MOST_VALUES for shape in shapes or ()):
        raise UnreadableFileError(path, f"needs arrays of more than {_MOST_VALUES:,} numbers for one image")


def check_graph(content: Any, trust: bool = False) -> Dict[str, Any]:
    """Return the graph in a parsed file, with nothing in it but what was checked. Raises ValueError for all else."""
    if trust:
        return content
    _GRAPH(content, "the graph")
    nodes = _nodes(content["nodes"], "nodes")
    _check_version(content.get("attrs", {}))
    _check_heads(content["heads"], nodes, "heads")
    variables = [number for number, node in enumerate(nodes) if node.op == "null"]
    if content["arg_nodes"] != variables:
        raise ValueError("arg_nodes are not its variables")
    return {
        "nodes": [_written(node, row) for node, row in zip(nodes, content["nodes"])],
        "arg_nodes": variables,
        "heads": [[*head, 0][:3] for head in content["heads"]],
        "attrs": {"mxnet_version": ["int", 10901]},
    }


def _check_version(attrs: Dict[str, Any]) -> None:
    version = attrs.get("mxnet_version", ["int", 10901])
    if not isinstance(version, list) or len(version) != 2 or attrs.keys() - {"mxnet_version"}:
        raise ValueError("its version is not that of MXNet")
    one_of("int")(version[0], "attrs.mxnet_version[0]")
    whole(10_500, 10_999)(version[1], "attrs.mxnet_version[1]")


def _check_heads(heads: Sequence[Sequence[int]], nodes: Sequence[Node], where: str) -> None:
    for head in heads:
        _check_entry(head, nodes, where)


def _check_entry(entry: Sequence[int], before: Sequence[Node], where: str) -> None:
    if entry[0] >= len(before):
        raise ValueError(f"{where} names node {entry[0]}, which is not before it")
    if entry[1] >= before[entry[0]].outputs:
        raise ValueError(f"{where} names output {entry[1]} of a node with {before[entry[0]].outputs}")


def _nodes(rows: Sequence[Dict[str, Any]], place: str, inside: str = "") -> List[Node]:
    nodes: List[Node] = []
    variables = set()
    for number, row in enumerate(rows):
        where = f"{place}[{number}]"
        for entry in row["inputs"]:
            _check_entry(entry, nodes, where)
        if not row["name"].isascii() or not row["name"].isprintable() or set('"\\') & set(row["name"]):
            raise ValueError(f"{where} has the name {shortened(row['name'])}")
        node = _node(row, nodes, where, inside)
        if node.op == "null":
            if node.name in variables:
                raise ValueError(f"{where} is a second variable {shortened(node.name)}")
            variables.add(node.name)
        nodes.append(node)
    return nodes


def _node(row: Dict[str, Any], before: Sequence[Node], where: str, inside: str) -> Node:
    operator = OPERATORS.get(row["op"])
    if row["op"] in TRUSTED:
        raise ForeignOperatorError(f"{where} is the operator {row['op']}, which {TRUSTED[row['op']]}")
    if operator is None:
        raise ForeignOperatorError(
            f"{where} is the operator {shortened(row['op'])}, which no export of this package has"
        )
    attrs = operator.read(row.get("attrs", {}), where)
    sources = tuple((entry[0], entry[1]) for entry in row["inputs"])
    node = Node(row["op"], row["name"], sources, attrs, operator.outputs(attrs))
    subgraphs = row.get("subgraphs")
    if (subgraphs is not None) != (row["op"] in WITH_SUBGRAPH) or (subgraphs is not None and inside):
        raise ValueError(f"{where} has a graph within it, or lacks it")
    if subgraphs is None:
        operator.check_inputs(node, before, where)
    else:
        check_subgraph(node, _subgraph(subgraphs[0], where, node.op), where)
    return node


def _subgraph(content: Any, where: str, inside: str) -> List[Node]:
    place = f"{where}.subgraphs[0]"
    record({**_PARTS, "arg_nodes": _OTHERS["arg_nodes"]}, _OTHERS)(content, place)
    nodes = _nodes(content["nodes"], f"{place}.nodes", inside)
    _check_heads(content["heads"], nodes, place)
    if content["arg_nodes"] != [number for number, node in enumerate(nodes) if node.op == "null"]:
        raise ValueError(f"{place}: arg_nodes are not its variables")
    if [head[:2] for head in content["heads"]] != [[len(nodes) - 1, 0]]:
        raise ValueError(f"{place} does not end in its last node")
    return nodes


def _written(node: Node, row: Dict[str, Any]) -> Dict[str, Any]:
    """The row of a node for MXNet: of the file's own only what was checked."""
    inputs = [[*entry, 0][:3] for entry in row["inputs"]]
    written = {"op": node.op, "name": node.name, "attrs": row.get("attrs", {}), "inputs": inputs}
    if "subgraphs" in row:
        [graph] = row["subgraphs"]
        names = [part["name"] for part in graph["nodes"]]
        written["subgraphs"] = [
            {
                "nodes": [
                    {"op": part["op"], "name": name, "attrs": part.get("attrs", {}), "inputs": part["inputs"]}
                    for name, part in zip(names, graph["nodes"])
                ],
                "arg_nodes": graph["arg_nodes"],
                "heads": graph["heads"],
                "node_row_ptr": list(range(len(names) + 1)),
            }
        ]
    return written
