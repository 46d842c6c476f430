"""The inference graph of a network with its arrays, what normalizes its input, and copies that leave it alone."""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ...nn.variants import inference_variants

__all__ = [
    "Array",
    "Arrays",
    "Normalization",
    "StaticGraph",
    "as_numpy",
    "cpu_arrays",
    "inference_copy",
    "inference_graph",
    "network_graph",
    "static_block",
]

Array = Union[mx.nd.NDArray, np.ndarray]
Arrays = Dict[str, mx.nd.NDArray]


class StaticGraph(NamedTuple):
    """A graph with the input `data`, and the values of all its other inputs."""

    symbol: mx.sym.Symbol
    arrays: Arrays


def as_numpy(array: Array) -> np.ndarray:
    """Return the array itself, or a copy of MXNet's."""
    return array if isinstance(array, np.ndarray) else array.asnumpy()


def cpu_arrays(net: HybridBlock) -> Arrays:
    """Return {name: values} of all parameters and statistics of a network, on the CPU."""
    return {name: param.data().as_in_context(mx.cpu()) for name, param in net.collect_params().items()}


def inference_graph(net: Callable) -> mx.sym.Symbol:
    """Return the graph of a network from `data` to its outputs, in float32 also where mixed precision is on.

    `net` may be a function that calls one.
    """
    with inference_variants():
        outputs = net(mx.sym.var("data", dtype="float32"))
    # A detector has several.
    symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    return mx.sym.load_json(symbol.tojson(remove_amp_cast=True))


def network_graph(net: HybridBlock) -> StaticGraph:
    """Return the inference graph of a network together with its arrays on the CPU."""
    return StaticGraph(inference_graph(net), cpu_arrays(net))


def static_block(graph: StaticGraph) -> mx.gluon.SymbolBlock:
    """Return a graph as a block for the CPU, neither hybridized nor fused."""
    block = mx.gluon.SymbolBlock(graph.symbol, mx.sym.var("data", dtype="float32"))
    for name, param in block.collect_params().items():
        param.shape = graph.arrays[name].shape
        param._load_init(graph.arrays[name], mx.cpu())
    return block


def inference_copy(net: HybridBlock) -> mx.gluon.SymbolBlock:
    """Return a copy of a network's graph and weights on the CPU; the network itself stays as it is."""
    return static_block(network_graph(net))


class Normalization(NamedTuple):
    """What a network wants done to pixels of 0..255, in the order of its input's channels.

    `mean`, `std`: (1, in_channels, 1, 1) each, float32.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, net) -> Normalization:
        """Read a network's preprocessing."""
        mean, std, order = net.card.preprocessing[:3]
        if len(mean) != net.in_channels:
            # The preprocessing of other channels than these; any scale serves the comparison.
            mean, std = ((float(np.mean(values)),) * net.in_channels for values in (mean, std))
        step = -1 if order == "bgr" else 1
        return cls(*(np.array(values[::step], np.float32).reshape(1, -1, 1, 1) for values in (mean, std)))

    def normalized(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels (N, in_channels, H, W) as the network takes them."""
        return (pixels - self.mean) / self.std

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """Return normalized images (N, in_channels, H, W) as pixels again."""
        return images * self.std + self.mean

    def before(self, graph: StaticGraph) -> StaticGraph:
        """Return the graph behind the normalization of its input: it takes pixels."""
        values = {"input_mean": self.mean, "input_std": self.std}
        mean, std = (mx.sym.var(name, shape=value.shape) for name, value in values.items())
        data = mx.sym.broadcast_div(mx.sym.broadcast_sub(mx.sym.var("data", dtype="float32"), mean), std)
        arrays = {name: mx.nd.array(value) for name, value in values.items()}
        return StaticGraph(graph.symbol(data=data), {**graph.arrays, **arrays})
