"""Nodes of a simplified graph as steps of the compiled operator's program."""

from __future__ import annotations

import collections
import math
from typing import Callable, Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..graph.batch_norm import Affine
from ..graph.nodes import CONSTANT, Entry, Node
from .activations import act_of, with_swish
from .program import Kernel, ProgramBuilder, Step
from .views import LANES, Block, View, joined

__all__ = ["Lowered", "lower"]


class Lowered(NamedTuple):
    """The program of a graph and its weights (n,), or the nodes that no step computes, by name, and why."""

    program: str
    weights: np.ndarray
    failed: Dict[str, str]


def lower(outputs: Sequence[Entry], image: Tuple[int, ...]) -> Lowered:
    """Write the program of simplified nodes.

    Parameters
    ----------
    outputs : what the operator is to give, in this order.
    image : shape of one image, (channels, height, width), or of a map.
    """
    nodes = with_swish(outputs)
    lowering = _Lowering(outputs, nodes, image)
    for node in nodes:
        lowering.node(node)
    for entry in outputs:
        lowering.output(entry)
    return Lowered(lowering.builder.text(), lowering.builder.weights(), lowering.failed)


class _Unsupported(Exception):
    """A node is none of the operator's."""


def _require(condition: object, why: str) -> None:
    if not condition:
        raise _Unsupported(why)


def _weights(node: Node) -> Tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a layer."""
    _require(all(entry.node.op == CONSTANT for entry in node.inputs[1:]), "weights that depend on images")
    weight, *bias = (entry.node.array for entry in node.inputs[1:])
    return weight, bias[0] if bias else np.zeros(len(weight))


def _pair(node: Node, key: str, default: int) -> Tuple[int, int]:
    value = node.get(key, ())
    _require(value == () or len(value) == 2, f"{key} of two axes is taken")
    return tuple(value) if value else (default, default)  # type: ignore[return-value]


class _Lowering:
    def __init__(self, outputs: Sequence[Entry], nodes: Sequence[Node], image: Tuple[int, ...]):
        self.builder = ProgramBuilder(image[0])
        self.failed: Dict[str, str] = {}
        self._image = image
        self._views: Dict[Entry, View] = {}
        # The step whose whole result a node is, while activations and sums behind it may still become part of it.
        self._fresh: Dict[Entry, Step] = {}
        read = [*outputs, *(entry for node in nodes for entry in node.inputs)]
        self._readers = collections.Counter(read)
        self._handlers: Dict[str, Callable[[Node], View]] = {
            "Convolution": self._convolution,
            "FullyConnected": self._dense,
            "BatchNorm": self._norm,
            "Pooling": self._pooling,
            "Concat": self._join,
            "stack": self._stack,
            "SliceChannel": self._split,
            "slice_axis": self._slice,
            "take": self._take,
            "zeros_like": self._zeros,
            "SwapAxis": self._swap,
            **dict.fromkeys(("Reshape", "reshape_like", "Flatten", "expand_dims"), self._reshape),
            **dict.fromkeys(("elemwise_add", "broadcast_add", "add_n"), self._sum),
            **dict.fromkeys(("elemwise_mul", "broadcast_mul"), self._product),
            **dict.fromkeys(("broadcast_sub", "broadcast_div"), self._with_constant),
        }

    def node(self, node: Node) -> None:
        """Take one node, whose inputs have been taken."""
        if node.op == CONSTANT:
            return
        if node.name == "data" and node.op == "null":
            _, height, width = self._image
            self._views[Entry(node)] = View.of(0, np.arange(self._image[0]), height, width)
            return
        missing = [entry for entry in node.inputs if entry not in self._views and entry.node.op != CONSTANT]
        try:
            _require(not missing, "it reads what MXNet computes")
            if act_of(node) is not None:
                self._views[Entry(node)] = self._activation(node)
                return
            handler = self._handlers.get(node.op)
            if handler is None:
                raise _Unsupported(f"there is no operator {node.op}")
            view = handler(node)
            if node.op != "SliceChannel":
                self._views[Entry(node)] = view
        except _Unsupported as error:
            self.failed[node.name] = str(error)

    def output(self, entry: Entry) -> None:
        """Make a result of the operator."""
        view = self._views.get(entry)
        if view is None or view.tensors.ndim != 1 or view.flat or len(entry.shape) not in (2, 4):
            self.failed.setdefault(entry.node.name, "it is no map")
            return
        if (view.tensors < 0).any():
            view = _of_blocks(view, *self._copied(view, np.arange(view.channels)))
        self.builder.output(view, len(entry.shape) == 2)

    def _map(self, entry: Entry) -> View:
        """The channels of a map, or of a vector."""
        _require(entry in self._views, "a constant in place of a map")
        view = self._views[entry]
        _require(view.tensors.ndim == 1 and not view.flat, "it reads no map")
        return view

    def _made(self, node: Node, step: Step, lanes) -> View:
        """The view of a step's result, which has the size of the node's."""
        entry = Entry(node)
        self._fresh[entry] = step
        return View.of(step.number, lanes, *self._sides(entry))

    @staticmethod
    def _sides(entry: Entry) -> Tuple[int, int]:
        return (entry.size(2), entry.size(3)) if len(entry.shape) == 4 else (1, 1)

    # ------------------------------------------------------------------------------------------------- blocks of views

    def _blocks(self, view: View) -> Tuple[List[Block], np.ndarray]:
        """Blocks with a view's channels, and their places; copied where they would be too many."""
        blocks, places = view.blocks()
        if not _in_blocks(view) or len(blocks) > 1.5 * math.ceil(view.channels / LANES) + 1:
            return self._copied(view, np.arange(view.channels))
        return blocks, places

    def _copied(self, view: View, places: np.ndarray) -> Tuple[List[Block], np.ndarray]:
        """New blocks with every channel at its place."""
        _require((view.tensors >= 0).any(), "a map of zeros")
        sources = [(-1, -1)] * (math.ceil((places.max() + 1) / LANES) * LANES)
        for place, tensor, lane in zip(places.tolist(), view.tensors.tolist(), view.lanes.tolist()):
            sources[place] = (tensor, lane)
        tensor = self.builder.select(sources)
        return [(tensor, block) for block in range(len(sources) // LANES)], places

    def _blocks_like(self, view: View, places: np.ndarray, count: int) -> List[Block]:
        found = view.blocks_at(places, count) if _in_blocks(view) else None
        return found or self._copied(view, places)[0]

    # -------------------------------------------------------------------------------------------------------- handlers

    def _activation(self, node: Node) -> View:
        entry, name = node.inputs[0], act_of(node) or ""
        step = self._fresh.pop(entry, None) if self._readers[entry] == 1 else None
        if step is not None and step.takes_sum and step.other is None and step.act == "none":
            step.act = name
        elif step is not None and (step.other is not None or not step.takes_sum) and step.late == "none":
            step.late = name
        else:
            view = self._map(entry)
            blocks, places = self._blocks(view)
            step = self._affine(blocks, places, np.ones(view.channels), np.zeros(view.channels))
            step.act = name
            return self._made(node, step, places)
        self._fresh[Entry(node)] = step
        return self._views[entry]

    def _affine(self, blocks: List[Block], places: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> Step:
        """Every channel times a number plus another one."""
        full = np.zeros((2, len(blocks) * LANES))
        full[0, places], full[1, places] = scale, shift
        return self.builder.depthwise(blocks, full[0], full[1], Kernel())

    def _norm(self, node: Node) -> View:
        _require(all(entry.node.op == CONSTANT for entry in node.inputs[1:]), "statistics that depend on images")
        _require(node.get("axis", 1) == 1, "another axis than that of channels")
        view = self._map(node.inputs[0])
        norm = Affine.of([entry.node.array for entry in node.inputs[1:]], node.attrs)
        blocks, places = self._blocks(view)
        return self._made(node, self._affine(blocks, places, norm.scale, norm.shift), places)

    def _convolution(self, node: Node) -> View:
        view = self._map(node.inputs[0])
        weight, bias = _weights(node)
        _require(weight.ndim == 4 and node.get("layout", "NCHW") in ("NCHW", "None", None), "another layout")
        pad = node.get("pad", (0, 0))
        kernel = Kernel(
            (weight.shape[2], weight.shape[3]),
            _pair(node, "stride", 1),
            _pair(node, "dilate", 1),
            tuple(pad) if len(pad) == 4 else (pad[0], pad[1]) * 2,
        )
        groups = int(node.get("num_group", 1))
        if groups == view.channels == len(weight) and groups > 1:
            return self._depthwise(node, view, weight, bias, kernel)
        step = self._grouped(view, weight, bias, kernel, groups)
        return self._made(node, step, np.arange(len(weight)))

    def _depthwise(self, node: Node, view: View, weight: np.ndarray, bias: np.ndarray, kernel: Kernel) -> View:
        blocks, places = self._blocks(view)
        full = np.zeros((len(blocks) * LANES, weight[0].size)), np.zeros(len(blocks) * LANES)
        full[0][places], full[1][places] = weight.reshape(len(weight), -1), bias
        return self._made(node, self.builder.depthwise(blocks, *full, kernel), places)

    def _grouped(self, view: View, weight: np.ndarray, bias: np.ndarray, kernel: Kernel, groups: int) -> Step:
        if not _in_blocks(view) and (view.tensors != 0).any():
            view = _of_blocks(view, *self._copied(view, np.arange(view.channels)))
        outputs, inputs = len(weight) // groups, weight.shape[1]
        # Of every block of outputs the first and the last group; neighbors with the same ones are computed together.
        firsts = np.arange(0, len(weight), LANES)
        lasts = np.minimum(firsts + LANES, len(weight)) - 1
        spans: Dict[Tuple[int, int], List[int]] = {}
        for block, span in enumerate(zip((firsts // outputs).tolist(), (lasts // outputs).tolist())):
            spans.setdefault(span, []).append(block)
        rows, values = [], []
        for (first, last), members in spans.items():
            begin, end = members[0] * LANES, min((members[-1] + 1) * LANES, len(weight))
            full = np.zeros((end - begin, (last - first + 1) * inputs, int(np.prod(kernel.sides))))
            for group in range(first, last + 1):
                low, high = max(begin, group * outputs), min(end, (group + 1) * outputs)
                place = (group - first) * inputs
                full[low - begin : high - begin, place : place + inputs] = weight[low:high].reshape(
                    high - low, inputs, -1
                )
            rows.append((len(members), view.taken(slice(first * inputs, (last + 1) * inputs)).runs()))
            values.append(full)
        return self.builder.conv(rows, values, bias, kernel)

    def _dense(self, node: Node) -> View:
        weight, bias = _weights(node)
        view = self._views[node.inputs[0]]
        _require(view.tensors.ndim == 1 and len(node.shapes[0]) == 2, "it reads no map")
        pixels = view.height * view.width
        _require(weight.shape[1] == view.channels * pixels, "it reads one axis of several")
        kernel = Kernel((view.height, view.width))
        weight = weight.reshape(len(weight), view.channels, view.height, view.width)
        step = self._grouped(view._replace(flat=False), weight, bias, kernel, 1)
        return self._made(node, step, np.arange(len(weight)))

    def _pooling(self, node: Node) -> View:
        view, kind = self._map(node.inputs[0]), node.get("pool_type", "max")
        everything = str(node.get("global_pool", False)) in ("True", "1", "true")
        _require(kind in ("avg", "max") and node.get("layout", "NCHW") in ("NCHW", "None", None), f"pooling {kind}")
        _require(kind == "avg" or not everything, "global maxima")
        blocks, places = self._blocks(view)
        if everything:
            tensor = self.builder.pool(blocks, "global", Kernel(), False)
        else:
            pad = _pair(node, "pad", 0)
            inside = str(node.get("count_include_pad", True)) in ("False", "0", "false")
            how = "max" if kind == "max" else "mean_inside" if inside else "mean"
            convention = node.get("pooling_convention", "valid")
            _require(convention in ("valid", "full"), f"pooling {convention}")
            kernel = Kernel(_pair(node, "kernel", 1), _pair(node, "stride", 1), (1, 1), pad * 2)
            tensor = self.builder.pool(blocks, how, kernel, convention == "full")
        return View.of(tensor, places, *self._sides(Entry(node)))

    def _sum(self, node: Node) -> View:
        if len(node.inputs) != 2:
            return self._sum_of_several(node)
        if any(entry.node.op == CONSTANT for entry in node.inputs):
            return self._with_constant(node)
        views = [self._map(entry) for entry in node.inputs]
        _require(node.inputs[0].shape == node.inputs[1].shape, "maps of several sizes")
        places = list(zip(node.inputs, views))
        # The later one gets the sum in its own step.
        places.sort(key=lambda pair: -pair[1].tensors.max())
        for (entry, view), (_, other) in (places, places[::-1]):
            step = self._fresh.get(entry) if self._readers[entry] == 1 else None
            if step is None or not step.takes_sum or step.other is not None or step.late != "none":
                continue
            if other.tensors.max() < step.number and _in_blocks(other):
                blocks = other.blocks_at(view.lanes, math.ceil((view.lanes.max() + 1) / LANES))
                if blocks is not None and len(blocks) * LANES >= view.channels:
                    step.other = blocks
                    self._fresh[Entry(node)] = step
                    return view
        return self._combined(node, "add", *views)

    def _sum_of_several(self, node: Node) -> View:
        view, *others = (self._map(entry) for entry in node.inputs)
        _require(len({entry.shape for entry in node.inputs}) == 1, "maps of several sizes")
        for other in others:
            view = self._combined(node, "add", view, other)
        return view

    def _with_constant(self, node: Node) -> View:
        """A map and one number, or one for each channel."""
        x, other = node.inputs
        if x.node.op == CONSTANT and node.op in ("broadcast_add", "elemwise_add", "broadcast_mul", "elemwise_mul"):
            x, other = other, x
        _require(other.node.op == CONSTANT and x.node.op != CONSTANT, "another order than map and constant")
        view, values = self._map(x), other.node.array.astype(np.float64)
        channels = values.shape[1:2] if values.ndim == 4 else values.shape[:1] if values.ndim == 3 else ()
        _require(values.size == 1 or (values.size,) == channels == (view.channels,), "a constant of another shape")
        _require(node.shapes[0] == x.shape, "a constant that changes the shape")
        values = np.broadcast_to(values.ravel(), (view.channels,))
        one, zero, kind = np.ones(view.channels), np.zeros(view.channels), node.op.split("_")[1]
        with np.errstate(divide="ignore"):
            scale = {"mul": values, "div": 1 / values}.get(kind, one)
        shift = {"add": values, "sub": -values}.get(kind, zero)
        _require(np.isfinite(scale).all(), "a division by 0")
        if (view.tensors == 0).all() and self._readers[x] == 1 and (view.lanes == np.arange(self._image[0])).all():
            self.builder.scale_input(scale, shift)
            return view
        blocks, places = self._blocks(view)
        return self._made(node, self._affine(blocks, places, scale, shift), places)

    def _product(self, node: Node) -> View:
        if any(entry.node.op == CONSTANT for entry in node.inputs):
            return self._with_constant(node)
        views = [self._map(entry) for entry in node.inputs]
        shapes = [entry.shape for entry in node.inputs]
        if shapes[0] == shapes[1]:
            return self._combined(node, "multiply", *views)
        for one, other in ((0, 1), (1, 0)):
            if shapes[other] == (*shapes[one][:2], 1, 1) and len(shapes[one]) == 4:
                return self._combined(node, "scale", views[one], views[other])
        raise _Unsupported("a product of maps of several sizes")

    def _combined(self, node: Node, how: str, view: View, other: View) -> View:
        blocks, places = self._blocks(view)
        step = self.builder.combine(how, blocks, self._blocks_like(other, places, len(blocks)))
        return self._made(node, step, places)

    def _reshape(self, node: Node) -> View:
        shape = node.shapes[0]
        _require(shape and shape[0] is None and None not in shape[1:], "it mixes images")
        view = self._views[node.inputs[0]].reshaped([size for size in shape[1:] if size is not None])
        _require(view is not None, "it mixes channels and pixels")
        assert view is not None
        return view

    def _zeros(self, node: Node) -> View:
        view = self._map(node.inputs[0])
        return view._replace(tensors=np.full_like(view.tensors, -1), lanes=np.zeros_like(view.lanes))

    def _swap(self, node: Node) -> View:
        view = self._views[node.inputs[0]].swapped(int(node.get("dim1", 0)), int(node.get("dim2", 0)))
        _require(view is not None, "it swaps pixels")
        assert view is not None
        return view

    def _join(self, node: Node) -> View:
        _require(node.get("dim", 1) == 1, "another axis than that of channels")
        return joined([self._map(entry) for entry in node.inputs])

    def _stack(self, node: Node) -> View:
        views = [self._map(entry) for entry in node.inputs]
        _require(node.get("axis", 0) == 2, "another axis")
        tensors, lanes = (np.stack([view[i] for view in views], 1) for i in (0, 1))
        return views[0]._replace(tensors=tensors, lanes=lanes)

    def _slice(self, node: Node) -> View:
        _require(node.get("axis") == 1, "another axis than that of channels")
        end = node.get("end")
        return self._map(node.inputs[0]).taken(slice(node.get("begin"), None if end in (None, "None") else end))

    def _split(self, node: Node) -> View:
        _require(node.get("axis", 1) == 1 and not node.get("squeeze_axis", False), "another axis than that of channels")
        view, parts = self._map(node.inputs[0]), int(node.get("num_outputs", 1))
        size = view.channels // parts
        for part in range(parts):
            self._views[Entry(node, part)] = view.taken(slice(part * size, (part + 1) * size))
        return view

    def _take(self, node: Node) -> View:
        index = node.inputs[1].node
        _require(node.get("axis", 0) == 1 and index.op == CONSTANT, "another axis than that of channels")
        view = self._map(node.inputs[0])
        return view.taken(np.clip(index.array.ravel().astype(int), 0, view.channels - 1))


def _in_blocks(view: View) -> bool:
    """Whether all channels stand in blocks: neither the images, tensor 0, nor zeros, tensor -1, do."""
    return bool((view.tensors > 0).all())


def _of_blocks(view: View, blocks: Iterable[Block], places: np.ndarray) -> View:
    """A view of what was copied."""
    [tensor] = {block[0] for block in blocks}
    return View.of(tensor, places, view.height, view.width)
