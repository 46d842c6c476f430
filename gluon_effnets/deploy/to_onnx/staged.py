"""One ONNX file of a network with a gate in every stage: each decision chooses the graph that makes the next one."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

from ..graph.inference import StaticGraph
from ..graph.nodes import Entry, read_graph, simplify
from .files import OnnxContent, onnx_package, value_info, write_model
from .operators import OnnxNodes

__all__ = ["CHOSEN", "write_staged_onnx_file"]

# What the place of a gate is called where it is read: given in place of decided, it forces a path.
CHOSEN = "chosen_{}"


def write_staged_onnx_file(
    head: StaticGraph,
    entries: Sequence[Mapping[Tuple[int, int], StaticGraph]],
    rests: Sequence[Mapping[int, StaticGraph]],
    prefix: Path,
    image: Tuple[int, int, int],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write <prefix>.onnx, checked: `data` (1, *image) -> `logits` (1, classes) and `place` (1, gates) int64.

    Every stage is two choices by nested `If`s: of its first unit, by the decisions before and behind it, and of its
    other units, which end in the next decision. Maps have as many channels as were chosen.

    Parameters
    ----------
    head, entries, rests : as in `StagedGraphs`.
    image : (C, H, W).
    metadata : the file's `metadata_props`.

    Raises as `write_onnx_file` does.
    """
    helper = onnx_package().helper
    taken: Set[str] = {"data", "logits", "place"}
    found = dict(zip(("map_0", "place_0"), simplify(read_graph(*head, image, 1))))
    made = OnnxNodes(found, taken=taken)
    nodes, maps = list(made.nodes), {0: found["map_0"]}
    number = len(rests[0])
    for stage, (first, others) in enumerate(zip(entries, rests)):
        last = stage + 1 == len(rests)
        chosen = CHOSEN.format(stage)
        nodes.append(helper.make_node("Identity", [f"place_{stage}"], [chosen]))
        units: Dict[int, Entry] = {}
        branches = []
        for before, now in first:
            shape = _shape(maps[before])
            [entry] = simplify(read_graph(*first[before, now], shape, 1))
            units[now] = entry
            branches.append(_branch({f"unit_{stage}_{before}_{now}": entry}, f"map_{stage}", taken))
        index, more = _index(stage, chosen, number)
        nodes += more
        nodes += _choice(branches, 0, index, [f"unit_{stage}"], [units[0]])
        names = ["logits"] if last else [f"map_{stage + 1}", f"place_{stage + 1}"]
        branches, maps = [], {}
        for now, graph in others.items():
            results = simplify(read_graph(*graph, _shape(units[now]), 1))
            maps[now] = results[0]
            named = {f"{name}_from_{now}": entry for name, entry in zip(names, results)}
            branches.append(_branch(named, f"unit_{stage}", taken))
        nodes += _choice(branches, 0, chosen, names, results)
    places = [f"place_{stage}" for stage in range(len(rests))]
    nodes += [
        helper.make_node("Concat", places, ["places"], axis=0),
        helper.make_node("Constant", [], ["places_shape"], value_ints=[1, len(rests)]),
        helper.make_node("Reshape", ["places", "places_shape"], ["place"]),
    ]
    outputs = [
        value_info("logits", results[0]),
        helper.make_tensor_value_info("place", onnx_package().TensorProto.INT64, [1, len(rests)]),
    ]
    return write_model(prefix, OnnxContent(nodes, made.initializers), [1, *image], outputs, metadata)


def _shape(entry: Entry) -> Tuple[int, ...]:
    return tuple(entry.size(axis) for axis in range(1, len(entry.shape)))


def _index(stage: int, chosen: str, number: int) -> Tuple[str, List[Any]]:
    """The place among the first units of a stage, ordered by the decision before, then by its own."""
    if not stage:
        return chosen, []
    helper, name = onnx_package().helper, f"index_{stage}"
    return name, [
        helper.make_node("Constant", [], [f"{name}_step"], value_ints=[number]),
        helper.make_node("Mul", [CHOSEN.format(stage - 1), f"{name}_step"], [f"{name}_begin"]),
        helper.make_node("Add", [f"{name}_begin", chosen], [name]),
    ]


def _branch(results: Mapping[str, Entry], data: str, taken: Set[str]) -> Any:
    helper = onnx_package().helper
    # A stage of a single unit has no other ones: its map goes on as it is.
    passed = [name for name, entry in results.items() if entry.node.op == "null"]
    taken.update(passed)
    made = OnnxNodes({name: entry for name, entry in results.items() if name not in passed}, data, taken)
    nodes = [*(helper.make_node("Identity", [data], [name]) for name in passed), *made.nodes]
    infos = [value_info(name, entry) for name, entry in results.items()]
    return helper.make_graph(nodes, next(iter(results)), [], infos, made.initializers)


def _choice(
    branches: Sequence[Any], first: int, index: str, names: Sequence[str], results: Sequence[Entry]
) -> List[Any]:
    """Nodes that run one of `branches`, the one at `index` - `first`, for results under `names`."""
    helper, middle = onnx_package().helper, len(branches) // 2
    assert middle, "at least two branches"
    graphs: List[Any] = []
    for half, begin in ((branches[:middle], first), (branches[middle:], first + middle)):
        if len(half) == 1:
            graphs += half
        else:
            inner = [f"{name}_of_{begin}_to_{begin + len(half)}" for name in names]
            infos = [_any_channels(*pair) for pair in zip(inner, results)]
            graphs.append(helper.make_graph(_choice(half, begin, index, inner, results), inner[0], [], infos))
    limit, below = f"{names[0]}_limit_{first + middle}_{len(branches)}", f"{names[0]}_is_below_{first + middle}"
    return [
        helper.make_node("Constant", [], [limit], value_int=first + middle),
        helper.make_node("Less", [index, limit], [below]),
        helper.make_node("If", [below], list(names), then_branch=graphs[0], else_branch=graphs[1]),
    ]


def _any_channels(name: str, entry: Entry) -> Any:
    """The declaration of a map of some of several widths."""
    info = value_info(name, entry)
    if len(entry.shape) > 2:
        info.type.tensor_type.shape.dim[1].dim_param = f"channels of {name}"
    return info
