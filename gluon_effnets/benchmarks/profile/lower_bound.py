"""The least time that a network can take on a processor: its multiply-adds and bytes at the measured rates."""

from __future__ import annotations

import functools
import math
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence, Set, Tuple

import mxnet as mx
import numpy as np

from ...deploy.graph.inference import StaticGraph
from ...deploy.graph.nodes import Entry, Node, Shape, read_graph, simplify, sorted_nodes
from ...deploy.to_onnx.files import onnx_runner, write_onnx_file

__all__ = ["KINDS", "Layer", "Machine", "lower_bounds", "measure_machine", "network_layers"]

SE, FC, MOVED = "squeeze-and-excite", "fully connected", "channels moved"
FIRST, POINTWISE, SPATIAL, DEPTHWISE, GROUPED = "first convolution", "1x1", "k x k", "depthwise", "grouped"
ELEMENTWISE, POOLING, LAYOUT, OTHER = "elementwise", "pooling", "layout", "other"
# What the operators of a network are sorted into. 'layout': reorders between memory layouts, which no network asks for.
KINDS = (POINTWISE, DEPTHWISE, GROUPED, SPATIAL, FIRST, FC, SE, ELEMENTWISE, MOVED, POOLING, LAYOUT, OTHER)

_FLOAT = 4  # bytes
_ELEMENTWISE = ("clip", "Activation", "hard_sigmoid", "sigmoid", "relu", "BatchNorm", "elemwise_mul", "_mul_scalar",
                "elemwise_add", "add_n", "broadcast_add", "broadcast_mul")  # fmt: skip
_MOVES = ("Concat", "SliceChannel", "slice_axis", "SwapAxis", "transpose", "take", "Reshape", "reshape_like", "Flatten")
_SUMS = ("elemwise_add", "add_n", "broadcast_add")
# Working sets in bytes: within the second cache, the third, and the memory of most processors.
_WORKING_SETS = tuple(1 << k for k in range(17, 29, 2))


class Layer(NamedTuple):
    """One operator of the exported graph (BN folded), for one batch.

    `side`: height of its output, 1 without one. `map_bytes` are read and written of images, `weight_bytes` read of
    weights. `behind`: the layer whose result this one changes value by value, so that it may be part of it.
    `shape` of a convolution: groups, input and output channels, kernel and output height; of a pooling with 0 groups
    and the input's height for the kernel; empty for others.
    """

    name: str
    kind: str
    side: int
    madds: int = 0
    map_bytes: int = 0
    weight_bytes: int = 0
    behind: str = ""
    shape: Tuple[int, ...] = ()


class Machine(NamedTuple):
    """What this processor does with the threads that it was given.

    `peaks`: multiply-adds per second of float32 matrix products, by library. `bandwidths`: bytes per second, by the
    number of bytes that are touched again and again.
    """

    peaks: Dict[str, float]
    bandwidths: Dict[int, float]

    @property
    def peak(self) -> float:
        """Multiply-adds per second of the fastest library."""
        return max(self.peaks.values())

    def bandwidth(self, working_set: int) -> float:
        """Bytes per second; for a size between two measured ones the rate of the smaller, which is not slower."""
        above = [rate for size, rate in self.bandwidths.items() if size > working_set / 4]
        return max(above or [min(self.bandwidths.values())])


def measure_machine(repeats: int = 20) -> Machine:
    """Measure the processor, in about two seconds. Other processes make it look slower than it is."""
    peaks: Dict[str, float] = {}
    for size in (256, 384, 512):
        for name, call in _products(size).items():
            peaks[name] = max(peaks.get(name, 0.0), size**3 / _fastest(call, repeats))
    bandwidths = {}
    for size in _WORKING_SETS:
        source, other = (np.ones(size // 2 // _FLOAT, np.float32) for _ in range(2))
        calls = (functools.partial(np.copyto, other, source), functools.partial(np.dot, other, source))
        bandwidths[size] = max(size / _fastest(call, repeats) for call in calls)
    return Machine(peaks, bandwidths)


def _products(size: int) -> Dict[str, Callable[[], object]]:
    """Products of two square matrices by all libraries at hand."""
    left, right = (np.random.RandomState(seed).rand(size, size).astype(np.float32) for seed in range(2))
    out = np.empty_like(left)
    x, weight = mx.nd.array(left), mx.nd.array(right)
    calls = {
        "NumPy": lambda: np.dot(left, right, out),
        "MXNet": lambda: mx.nd.FullyConnected(x, weight, no_bias=True, num_hidden=size).wait_to_read(),
    }
    product = mx.sym.FullyConnected(mx.sym.var("data"), mx.sym.var("weight"), no_bias=True, num_hidden=size)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = write_onnx_file(product, {"weight": weight}, Path(folder) / "product", (size,), size)
            calls["ONNX Runtime"] = functools.partial(onnx_runner(path), left)
        except ImportError:
            pass  # the peak is what the libraries at hand reach
    return calls


def _fastest(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def network_layers(graph: StaticGraph, shape: Sequence[int]) -> List[Layer]:
    """The operators of a graph on an input of `shape` (N, C, H, W), as an exported file has them."""
    nodes = sorted_nodes(simplify(read_graph(*graph, tuple(shape[1:]), shape[0])))
    excite = _squeeze_and_excite(nodes)
    return [_layer(node, node in excite) for node in nodes if node.op not in ("null", "constant")]


def lower_bounds(layers: Sequence[Layer], machine: Machine) -> List[float]:
    """The least seconds of every layer: its multiply-adds at the peak, or its bytes at the bandwidth, if that is more.

    All weights are read once in every run, from where all of them find room.
    """
    all_weights = sum(layer.weight_bytes for layer in layers)
    return [
        max(
            layer.madds / machine.peak,
            layer.map_bytes / machine.bandwidth(layer.map_bytes) + layer.weight_bytes / machine.bandwidth(all_weights),
        )
        for layer in layers
    ]


def _layer(node: Node, excites: bool) -> Layer:
    out = _sizes(node.shapes[0])
    side = out[2] if len(out) == 4 else 1
    read = [entry for entry in node.inputs if entry.node.op != "constant"]
    if node.op in ("Convolution", "FullyConnected"):
        return _matrix_layer(node, side, excites)
    kind, touched = OTHER, [*read, Entry(node)]
    if node.op in _ELEMENTWISE:
        # It may work on each value while that is at hand, and so costs no bytes; a sum reads its other operand.
        kind, touched = ELEMENTWISE, read[1:] if node.op in _SUMS else []
        if excites:
            kind, touched = SE, [max(read, key=_bytes), Entry(node)] if node.op == "broadcast_mul" else []
    elif node.op in _MOVES:
        kind, touched = MOVED, []  # the next layer may read the channels where they lie
    elif node.op == "Pooling":
        kind = SE if excites else POOLING
    behind = read[0].node.name if kind in (ELEMENTWISE, SE) and node.op not in ("broadcast_mul", "Pooling") else ""
    channels = out[1]
    shape = (0, channels, channels, _sizes(read[0].shape)[2], side) if node.op == "Pooling" else ()
    return Layer(node.name, kind, side, map_bytes=sum(map(_bytes, touched)), behind=behind, shape=shape)


def _matrix_layer(node: Node, side: int, excites: bool) -> Layer:
    source, weight = node.inputs[0], _sizes(node.inputs[1].shape)
    groups, kernel = node.get("num_group", 1), weight[2:] or (1, 1)
    channels = _sizes(source.shape)[1]
    if excites:
        kind = SE
    elif node.op == "FullyConnected" or (side == 1 and math.prod(kernel) == 1):
        kind = FC
    elif source.node.op == "null":
        kind = FIRST
    elif groups > 1:
        kind = DEPTHWISE if groups == channels else GROUPED
    else:
        kind = POINTWISE if math.prod(kernel) == 1 else SPATIAL
    output = Entry(node)
    out = _sizes(output.shape)
    madds = math.prod(out) * math.prod(weight[1:])
    weights = sum(_bytes(entry) for entry in node.inputs[1:])
    shape = (groups, channels, out[1], kernel[0], side)
    return Layer(node.name, kind, side, madds, _bytes(source) + _bytes(output), weights, shape=shape)


def _bytes(entry: Entry) -> int:
    return _FLOAT * math.prod(_sizes(entry.shape))


def _sizes(shape: Shape) -> Tuple[int, ...]:
    """The sizes of a shape in a graph that was read for a number of images, so that it leaves none open."""
    sizes = tuple(size for size in shape if size is not None)
    assert len(sizes) == len(shape), shape
    return sizes


def _squeeze_and_excite(nodes: Sequence[Node]) -> Set[Node]:
    """The nodes from global poolings to the products with what comes of them."""
    found: Set[Node] = set()
    for node in nodes:
        if node.op != "broadcast_mul":
            continue
        gates = [entry.node for entry in node.inputs if entry.shape[2:] == (1, 1) and entry.node.inputs]
        path: Set[Node] = set()
        while gates and gates[-1].op != "Pooling":
            path.add(gates[-1])
            gates.append(gates[-1].inputs[0].node)
        if gates:
            found |= {node, *path, gates[-1]}
    return found
