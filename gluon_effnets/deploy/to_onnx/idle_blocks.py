"""IdleBlocks in whole blocks of channels, in which ONNX Runtime computes: nothing is split, no layout is changed."""

from __future__ import annotations

import collections
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ..graph.nodes import CONSTANT, Entry, Node, constant, sorted_nodes

__all__ = ["LANES", "block_idle_runs"]

LANES = 16  # ONNX Runtime's blocks have 16 channels with AVX-512 and on ARM, 8 with AVX2
_SUMS = ("elemwise_add", "broadcast_add")
_ZEROS = -1

Readers = Dict[Entry, List[Node]]


class _Branches(NamedTuple):
    """The active part of a run: where it is sliced off, and the layers of its blocks."""

    slice: Node
    expands: List[Node]
    projects: List[Node]
    sums: List[Node]


class _Joined(NamedTuple):
    """The layers around the maps that have the order of the joined channels: those that read, write and add them."""

    readers: List[Node]
    writers: List[Node]
    sums: List[Node]


def block_idle_runs(outputs: Sequence[Entry], lanes: int = LANES) -> Sequence[Entry]:
    """Return the outputs of an equal graph, as `simplify` gives it, changed in place.

    In every run of IdleBlocks the active part takes in as many idle channels as fill its last block of `lanes`, with
    weights of zero, so that only the shortcuts touch them; the other idle channels are filled up with zeros. The
    convolution before the run then makes the two parts at once, as two convolutions, or two that select them follow a
    sum. The layers behind the run take the joined channels in their new order.

    Runs of other kinds stay as they are: active on both sides, without a shortcut, shuffled, joined after each of their
    blocks, or so narrow that nothing is left idle. So do all runs with `lanes` of 0.
    """
    # From the end: a run behind another one must be done with its slices, which would stop the search for the layers
    # between the two.
    for join in reversed(sorted_nodes(outputs)) if lanes else ():
        if join.op == "Concat" and join.get("dim") == 1 and len(join.inputs) == 2:
            _block_run(join, _readers(outputs), lanes)
    return outputs


def _readers(outputs: Sequence[Entry]) -> Readers:
    found: Readers = collections.defaultdict(list)
    for node in [*sorted_nodes(outputs), Node("output", "", inputs=list(outputs))]:
        for entry in node.inputs:
            found[entry].append(node)
    return found


def _block_run(join: Node, readers: Readers, lanes: int) -> None:
    joined = _joined(join, readers)
    for idle, active in (join.inputs, join.inputs[::-1]):
        if joined is None or not _is_slice(idle.node) or readers[idle] != [join]:
            continue
        branches = _branches(active, join, readers)
        if branches is not None and branches.slice.inputs == idle.node.inputs and branches.sums:
            _rewrite(join, idle.node, branches, joined, readers, lanes)
            return


def _branches(end: Entry, join: Node, readers: Readers) -> Optional[_Branches]:
    """The layers from a slice to the active part's end, if every block is 1x1 convolutions around a shortcut."""
    entry, behind, found = end, join, _Branches(end.node, [], [], [])
    while True:
        expands = [node for node in readers[entry] if node is not behind]
        if not all(map(_is_dense, expands)):
            return None
        found.expands.extend(expands)
        if _is_slice(entry.node):
            return found._replace(slice=entry.node)
        projects = [given for given in entry.node.inputs if _is_read_once(given, readers)]
        if entry.node.op not in _SUMS or len(projects) != 1:
            return None
        [project] = projects
        found.projects.append(project.node)
        found.sums.append(entry.node)
        behind, entry = entry.node, next(given for given in entry.node.inputs if given != project)


def _joined(join: Node, readers: Readers) -> Optional[_Joined]:
    """The layers around the map of a run and those that it is added to, if all of them can have another order."""
    found, waiting = _Joined([], [], []), [Entry(join)]
    while waiting:
        entry = waiting.pop()
        for node in readers[entry]:
            if _is_dense(node):
                found.readers.append(node)
                continue
            others = [given for given in node.inputs if given != entry]
            if node.op not in _SUMS or len(others) != 1 or not _is_read_once(others[0], readers):
                return None
            found.writers.append(others[0].node)
            found.sums.append(node)
            waiting.append(Entry(node))
    return found


def _rewrite(join: Node, idle: Node, branches: _Branches, joined: _Joined, readers: Readers, lanes: int) -> None:
    [source] = idle.inputs
    channels = range(source.size(1))
    own, others = (list(channels[node.get("begin") : node.get("end")]) for node in (branches.slice, idle))
    spare = -len(own) % lanes
    first, rest = (own + others[:spare], others[spare:])
    if sorted(own + others) != list(channels) or not rest or not (_is_dense(source.node) or source.node.op in _SUMS):
        return
    rest += [_ZEROS] * (-len(rest) % lanes)
    is_cut = _is_dense(source.node) and all(node in (branches.slice, idle) for node in readers[source])
    for part, index, name in ((branches.slice, first, "active"), (idle, rest, "idle")):
        _become_convolution(part, source, index, f"{source.node.name}/{name}" if is_cut else None)

    filled = [*range(len(own)), *[_ZEROS] * spare]
    for node in branches.expands:
        _reorder_inputs(node, filled)
    for node in branches.projects:
        _reorder_outputs(node, filled)
    before = own + others if join.inputs[1].node is idle else others + own
    order = [_ZEROS if channel == _ZEROS else before.index(channel) for channel in first + rest]
    for node in joined.readers:
        _reorder_inputs(node, order)
    for node in joined.writers:
        _reorder_outputs(node, order)
    for nodes, width in ((branches.sums, len(first)), ([join, *joined.sums], len(order))):
        for node in nodes:
            _set_width(node, width)
    join.inputs = sorted(join.inputs, key=lambda entry: entry.node is idle)


def _become_convolution(part: Node, source: Entry, index: Sequence[int], name: Optional[str]) -> None:
    """Turn a slice into the convolution that makes these channels; without a `name`, that selects them of `source`."""
    part.op = "Convolution"
    if name:
        conv = source.node
        part.name, part.attrs, part.inputs = name, dict(conv.attrs), list(conv.inputs)
        part.shapes = list(conv.shapes)
    else:
        ones = constant(f"{part.name}_weight", np.eye(source.size(1), dtype=np.float32)[:, :, None, None])
        part.attrs, part.inputs = {"kernel": "(1, 1)", "no_bias": "True"}, [source, ones]
    _reorder_outputs(part, index)


def _is_read_once(entry: Entry, readers: Readers) -> bool:
    """Whether a dense convolution makes a map for one reader alone."""
    return _is_dense(entry.node) and len(readers[entry]) == 1


def _is_slice(node: Node) -> bool:
    return node.op == "slice_axis" and node.get("axis") == 1


def _is_dense(node: Node) -> bool:
    """Whether every output of a convolution reads every input, so that both can be put in another order."""
    if node.op != "Convolution" or node.get("num_group", 1) != 1:
        return False
    return all(entry.node.op == CONSTANT for entry in node.inputs[1:])


def _reorder_inputs(conv: Node, index: Sequence[int]) -> None:
    weight = conv.inputs[1].node
    conv.inputs[1] = constant(weight.name, _taken(weight.array, index, 1))


def _reorder_outputs(conv: Node, index: Sequence[int]) -> None:
    conv.inputs[1:] = [constant(entry.node.name, _taken(entry.node.array, index, 0)) for entry in conv.inputs[1:]]
    conv.attrs["num_filter"] = str(len(index))
    _set_width(conv, len(index))


def _taken(values: np.ndarray, index: Sequence[int], axis: int) -> np.ndarray:
    """Channels of weights, zeros for those that are `_ZEROS`."""
    padded = np.pad(values, [(0, int(place == axis)) for place in range(values.ndim)])
    return padded.take(index, axis)


def _set_width(node: Node, channels: int) -> None:
    images, _, *size = node.shapes[0]
    node.shapes = [(images, channels, *size)]
