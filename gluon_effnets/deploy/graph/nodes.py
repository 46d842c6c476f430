"""The inference graph as nodes with shapes, its constants computed and its work-arounds for MXNet taken out again."""

from __future__ import annotations

import ast
import collections
import dataclasses
import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ...files.mistakes import sentence
from .batch_norm import Affine

__all__ = [
    "CONSTANT",
    "Entry",
    "Node",
    "Shape",
    "constant",
    "read_graph",
    "simplify",
    "sorted_nodes",
]


Shape = Tuple[Optional[int], ...]  # None: depends on the number of images
CONSTANT = "constant"


@dataclasses.dataclass(eq=False)
class Node:
    """An operator. `op` is MXNet's name of it, 'null' for the input, 'constant' for what has a `value`."""

    op: str
    name: str
    attrs: Dict[str, str] = dataclasses.field(default_factory=dict)
    inputs: List[Entry] = dataclasses.field(default_factory=list, repr=False)
    shapes: List[Shape] = dataclasses.field(default_factory=list)
    value: Optional[np.ndarray] = dataclasses.field(default=None, repr=False)

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute as a number, tuple or bool where its text is one."""
        text = self.attrs.get(key)
        if text is None:
            return default
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    @property
    def array(self) -> np.ndarray:
        """The value of a constant."""
        assert self.value is not None, f"{self.name} depends on images"
        return self.value


class Entry(NamedTuple):
    """One output of a node."""

    node: Node
    output: int = 0

    @property
    def shape(self) -> Shape:
        """The size of every axis; None where it depends on the number of images."""
        return self.node.shapes[self.output]

    def size(self, axis: int) -> int:
        """The size of an axis that does not depend on the number of images."""
        size = self.shape[axis]
        assert size is not None, f"axis {axis} of {self.node.name} depends on the number of images"
        return size


def read_graph(
    symbol: mx.sym.Symbol, arrays: Dict[str, mx.nd.NDArray], image: Tuple[int, ...], batch: Optional[int] = None
) -> List[Entry]:
    """Read a graph as nodes with shapes; return its outputs.

    What does not depend on the images is computed here, by MXNet.

    Parameters
    ----------
    symbol, arrays : a graph with the input `data`, and the values of all its other inputs.
    image : shape of one image, or of one map.
    batch : a fixed N; None: any.
    """
    nodes, heads = _load(symbol)
    of_two = [_output_shapes(symbol, (number, *image)) for number in ((2, 3) if batch is None else (batch, batch))]
    entries = [Entry(node, index) for node in nodes for index in range(node.get("num_outputs", 1))]
    assert len(entries) == len(of_two[0])
    for entry, *shapes in zip(entries, *of_two):
        entry.node.shapes.append(tuple(one if one == other else None for one, other in zip(*shapes)))
    of_images = set()
    for node in nodes:
        if node.name == "data" or any(entry.node in of_images for entry in node.inputs):
            of_images.add(node)
    _compute_constants(symbol, arrays, entries, of_images)
    return heads


def _load(symbol: mx.sym.Symbol) -> Tuple[List[Node], List[Entry]]:
    content = json.loads(symbol.tojson())
    nodes: List[Node] = []
    for row in content["nodes"]:
        inputs = [Entry(nodes[number], index) for number, index, *_ in row["inputs"]]
        nodes.append(Node(row["op"], row["name"], row.get("attrs", {}), inputs))
    return nodes, [Entry(nodes[number], index) for number, index, *_ in content["heads"]]


def _output_shapes(symbol: mx.sym.Symbol, shape: Tuple[int, ...]) -> List[Tuple[int, ...]]:
    try:
        return symbol.get_internals().infer_shape(data=shape)[1]
    except Exception as error:  # MXNet raises no other kind for an array that is too large
        raise ValueError(f"the network does not take images of {shape}: {sentence(error)}") from None


def _compute_constants(symbol, arrays, entries, of_images) -> None:
    """Make constants of the outputs that operators on images read but images do not change."""
    read = {entry for node in of_images for entry in node.inputs if entry.node not in of_images}
    values = {entry: arrays[entry.node.name].asnumpy() for entry in read if entry.node.op == "null"}
    numbers = [number for number, entry in enumerate(entries) if entry in read and entry not in values]
    if numbers:
        internals = symbol.get_internals()
        group = mx.sym.Group([internals[number] for number in numbers])
        computed = mx.nd.CachedOp(group)(*(arrays[name].as_in_context(mx.cpu()) for name in group.list_inputs()))
        computed = computed if isinstance(computed, list) else [computed]
        values.update((entries[number], value.asnumpy()) for number, value in zip(numbers, computed))
    constants = {entry: constant(entry.node.name, v) for entry, v in values.items()}
    for node in of_images:
        node.inputs = [constants.get(entry, entry) for entry in node.inputs]


def sorted_nodes(outputs: Sequence[Entry]) -> List[Node]:
    """The nodes that outputs need, each behind those that it reads."""
    done: Dict[Node, None] = {}
    waiting = [output.node for output in reversed(outputs)]
    while waiting:
        node = waiting[-1]
        missing = [entry.node for entry in node.inputs if entry.node not in done]
        if missing and node not in done:
            waiting += missing
        else:
            done[waiting.pop()] = None
    return list(done)


def simplify(outputs: Sequence[Entry]) -> List[Entry]:
    """Return the outputs of an equal graph, changed in place.

    Gone are dropout and reshapes to the same shape; joined channels and selected ones are a 'Concat' and a 'take' along
    axis 1; zeros around the input of a convolution belong to it ('pad': top, left, bottom, right), and so does the BN
    behind it.
    """
    for node in sorted_nodes(outputs):
        node.inputs = [_without_identities(entry) for entry in node.inputs]
        _join_plainly(node)
        _select_plainly(node)
    outputs = [_without_identities(output) for output in outputs]
    nodes = sorted_nodes(outputs)
    read = [*outputs, *(entry for node in nodes for entry in node.inputs)]
    num_readers = collections.Counter(entry.node for entry in read)
    for node in nodes:
        _absorb_padding(node)
        _absorb_norm(node, num_readers)
    return outputs


def _without_identities(entry: Entry) -> Entry:
    while _is_identity(entry.node):
        entry = entry.node.inputs[0]
    return entry


def _is_identity(node: Node) -> bool:
    if node.op in ("Dropout", "BlockGrad", "_copy"):
        return True
    return node.op in ("Reshape", "reshape_like", "Flatten") and node.shapes[0] == node.inputs[0].shape


def _join_plainly(node: Node) -> None:
    """Undo the merging of spatial axes in `concat_channels`."""
    if node.op != "reshape_like" or node.inputs[0].node.op != "Concat" or node.inputs[0].node.get("dim") != 1:
        return
    spatial, flat = node.shapes[0][2:], node.inputs[0].node.inputs
    parts = [entry.node.inputs[0] for entry in flat if entry.node.op == "Reshape"]
    if len(parts) == len(flat) and all(
        part.shape[2:] == spatial and part.shape[:2] == entry.shape[:2] for part, entry in zip(parts, flat)
    ):
        node.op, node.inputs, node.attrs = "Concat", parts, {"dim": "1"}


def _select_plainly(node: Node) -> None:
    """Undo the merging of images and channels in `select_channels`."""
    if node.op != "take" or node.get("axis") != 0 or node.inputs[0].node.op != "Reshape":
        return
    x, rows = node.inputs[0].node.inputs[0], node.inputs[1].node
    if rows.op != "broadcast_add" or rows.inputs[1].node.op != CONSTANT:
        return
    steps = [rows.inputs[0].node]
    while steps[-1].op in ("expand_dims", "Cast", "_mul_scalar"):
        steps.append(steps[-1].inputs[0].node)
    if [step.op for step in steps] != ["expand_dims", "Cast", "_mul_scalar", "_contrib_arange_like"]:
        return
    if steps[-1].inputs[0] == x and steps[-2].get("scalar") == x.shape[1]:
        index = rows.inputs[1].node.array.ravel()
        node.attrs = {"axis": "1", "mode": "clip"}
        node.inputs = [x, constant(f"{node.name}_index", index)]


def _absorb_padding(node: Node) -> None:
    """Take the zeros that TensorFlow's 'SAME' padding adds into the convolution."""
    if node.op != "Convolution" or node.inputs[0].node.op != "Pad":
        return
    pad = node.inputs[0].node
    width = pad.get("pad_width")
    if pad.get("mode") != "constant" or pad.get("constant_value", 0) or any(width[:4]):
        return
    vertical, horizontal = node.get("pad", (0, 0))
    top, bottom, left, right = width[4:]
    sides = (top + vertical, left + horizontal, bottom + vertical, right + horizontal)
    node.attrs = {**node.attrs, "pad": str(sides)}
    node.inputs = [pad.inputs[0], *node.inputs[1:]]


def _absorb_norm(node: Node, num_readers: Dict[Node, int]) -> None:
    """Turn a BN layer behind a convolution into the convolution with both their weights."""
    if node.op != "BatchNorm" or node.inputs[0].node.op != "Convolution" or node.get("axis", 1) != 1:
        return
    conv = node.inputs[0].node
    weights = [entry.node.value for entry in conv.inputs[1:]]
    if num_readers[conv] > 1 or any(value is None for value in weights):
        return
    norm = Affine.of([entry.node.array for entry in node.inputs[1:]], node.attrs)
    folded = norm.folded(*(entry.node.array for entry in conv.inputs[1:]))
    names = (f"{conv.name}_weight", f"{conv.name}_bias")
    node.op, node.attrs = "Convolution", {**conv.attrs, "no_bias": "False"}
    node.inputs = [conv.inputs[0], *(constant(name, a.astype(np.float32)) for name, a in zip(names, folded))]


def constant(name: str, value: np.ndarray) -> Entry:
    """A new constant."""
    return Entry(Node(CONSTANT, name, shapes=[value.shape], value=value))
