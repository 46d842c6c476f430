"""A graph of MXNet with as much of it as possible in one compiled operator, from the images on."""

from __future__ import annotations

import json
from typing import Dict, List, NamedTuple, Set, Tuple

import mxnet as mx
import numpy as np

from ..graph.inference import Arrays, StaticGraph
from ..graph.nodes import read_graph, simplify
from .lowering import Lowered, lower

__all__ = ["CompiledGraph", "NotCompiled", "compiled_graph"]

_OPERATOR, _WEIGHTS = "effnets_network", "effnets_network_weights"
_HEAVY = ("Convolution", "FullyConnected")
_MOST_TRIES = 5

Place = Tuple[int, int]  # the number of a node, and which of its outputs


class NotCompiled(ValueError):
    """A graph has convolutions that the compiled operator does not compute."""


class CompiledGraph(NamedTuple):
    """A rewritten graph, the part of it that is the operator, and the part of the original graph that this replaces."""

    graph: StaticGraph
    operator: StaticGraph
    original: StaticGraph


def compiled_graph(graph: StaticGraph, image: Tuple[int, ...]) -> CompiledGraph:
    """Return an equal graph for images of one size, which MXNet can run where the compiled operators are loaded.

    Operators behind the last convolution may stay as they are. If others had to, nothing would be won: a graph that
    MXNet fuses must not lose more by that than its part gains.

    Parameters
    ----------
    graph : from `data` to any outputs, with its arrays on the CPU, in float32.
    image : shape of one image, (channels, height, width), or of a map.

    Raises NotCompiled, or ValueError if the graph does not take such images.
    """
    if any(array.dtype in (np.float16, np.float64) for array in graph.arrays.values()):  # indices are whole numbers
        raise NotCompiled("the compiled operator takes float32 alone")
    content = json.loads(graph.symbol.tojson())
    nodes, heads = content["nodes"], [(head[0], head[1]) for head in content["heads"]]
    inputs = [[(entry[0], entry[1]) for entry in node["inputs"]] for node in nodes]
    failed: Dict[str, str] = {}
    for _ in range(_MOST_TRIES):
        rest = _behind(nodes, inputs, failed)
        ours = _of_images(nodes, inputs) - rest
        cut = _cut(inputs, heads, ours, rest)
        if not cut or any(nodes[number]["op"] in _HEAVY for number in rest):
            break
        part = _part(graph, cut)
        lowered = lower(simplify(read_graph(*part, image)), image)
        if not lowered.failed:
            written = _rewritten(graph, nodes, heads, rest, cut, lowered)
            return written._replace(original=part)
        failed.update(lowered.failed)
    reasons = "; ".join(f"{name}: {why}" for name, why in list(failed.items())[:3])
    raise NotCompiled(f"the graph has layers without compiled operators ({reasons})")


def _of_images(nodes: List[Dict], inputs: List[List[Place]]) -> Set[int]:
    """The nodes that depend on images."""
    found: Set[int] = set()
    for number, node in enumerate(nodes):
        if node["name"] == "data" or any(source in found for source, _ in inputs[number]):
            found.add(number)
    return found


def _behind(nodes: List[Dict], inputs: List[List[Place]], failed: Dict[str, str]) -> Set[int]:
    """The nodes of these names, and all that read them."""
    found: Set[int] = set()
    for number, node in enumerate(nodes):
        if node["name"] in failed or any(source in found for source, _ in inputs[number]):
            found.add(number)
    return found


def _cut(inputs: List[List[Place]], heads: List[Place], ours: Set[int], rest: Set[int]) -> List[Place]:
    """What the operator must give to the nodes behind it, and as results of the graph."""
    read = [*heads, *(entry for number in sorted(rest) for entry in inputs[number])]
    return [entry for entry in dict.fromkeys(read) if entry[0] in ours]


def _part(graph: StaticGraph, cut: List[Place]) -> StaticGraph:
    """The graph up to these outputs."""
    internals = graph.symbol.get_internals()
    # The outputs of all nodes stand one behind the other.
    heads = [head[0] for head in json.loads(internals.tojson())["heads"]]
    symbol = mx.sym.Group([internals[heads.index(number) + index] for number, index in cut])
    names = set(symbol.list_inputs())
    return StaticGraph(symbol, {name: array for name, array in graph.arrays.items() if name in names})


def _rewritten(
    graph: StaticGraph, nodes: List[Dict], heads: List[Place], rest: Set[int], cut: List[Place], lowered: Lowered
) -> CompiledGraph:
    """The graph of the operator and of the nodes behind it, and the operator alone."""
    new: List[Dict] = [
        {"op": "null", "name": "data", "inputs": [], "attrs": {"__dtype__": "0"}},
        {"op": "null", "name": _WEIGHTS, "inputs": []},
        {"op": _OPERATOR, "name": _OPERATOR, "attrs": {"program": lowered.program}, "inputs": [[0, 0, 0], [1, 0, 0]]},
    ]
    places: Dict[Place, Place] = {entry: (2, index) for index, entry in enumerate(cut)}
    numbers: Dict[int, int] = {}
    needed = _needed(nodes, rest, heads)
    for number, node in enumerate(nodes):
        if number not in needed:
            continue
        if node["name"] == "data":
            numbers[number] = 0
            continue
        entries = [places.get((entry[0], entry[1])) or (numbers[entry[0]], entry[1]) for entry in node["inputs"]]
        numbers[number] = len(new)
        new.append({**node, "inputs": [[*entry, 0] for entry in entries]})
    ends = [places.get(head) or (numbers[head[0]], head[1]) for head in heads]
    arrays = {**graph.arrays, _WEIGHTS: mx.nd.array(lowered.weights)}
    whole, operator = _graph(new, ends, arrays), _graph(new[:3], list(places.values()), arrays)
    return CompiledGraph(whole, operator, graph)


def _graph(nodes: List[Dict], heads: List[Place], arrays: Arrays) -> StaticGraph:
    content = {
        "nodes": nodes,
        "arg_nodes": [number for number, node in enumerate(nodes) if node["op"] == "null"],
        "heads": [[*head, 0] for head in heads],
        "attrs": {"mxnet_version": ["int", 10901]},
    }
    symbol = mx.sym.load_json(json.dumps(content))
    names = set(symbol.list_inputs())
    return StaticGraph(symbol, {name: array for name, array in arrays.items() if name in names})


def _needed(nodes: List[Dict], rest: Set[int], heads: List[Place]) -> Set[int]:
    """The nodes that stay: those behind the operator, and what does not depend on images of what they read."""
    of_images = _of_images(nodes, [[(entry[0], entry[1]) for entry in node["inputs"]] for node in nodes])
    found: Set[int] = set()
    for number in reversed(range(len(nodes))):
        if number in rest or number in found:
            found.add(number)
            sources = {entry[0] for entry in nodes[number]["inputs"]}
            found |= {source for source in sources if source in rest or source not in of_images}
            found |= {source for source in sources if nodes[source]["name"] == "data"}
    return found
