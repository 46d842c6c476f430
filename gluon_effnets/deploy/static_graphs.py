"""Static graphs: slices of parameters taken once and for all, BN folded into convolutions, Swish by oneDNN."""

from __future__ import annotations

import ast
import json
from typing import Any, Dict, List, NamedTuple, Tuple

import mxnet as mx
import numpy as np

__all__ = ["StaticGraph", "static_block", "static_graph"]

Arrays = Dict[str, mx.nd.NDArray]


class StaticGraph(NamedTuple):
    """A graph with the input `data`, and the values of all its other inputs."""

    symbol: mx.sym.Symbol
    arrays: Arrays


def static_graph(symbol: mx.sym.Symbol, arrays: Arrays, fold: bool = True) -> StaticGraph:
    """Return an equal graph whose parameters are what is used of them; what depends on them alone is computed here.

    `fold`: BN becomes part of the convolution before it.
    The values of the result are copies on the CPU, under the names of the layers that read them.
    """
    content = json.loads(symbol.tojson(remove_amp_cast=True))
    return _Rewriting(content, arrays, fold).result()


def static_block(graph: StaticGraph) -> mx.gluon.SymbolBlock:
    """Return the graph as a block for the CPU, neither hybridized nor fused."""
    block = mx.gluon.SymbolBlock(graph.symbol, mx.sym.var("data", dtype="float32"))
    for name, param in block.collect_params().items():
        param.shape = graph.arrays[name].shape
        param._load_init(graph.arrays[name], mx.cpu())
    return block


class _Rewriting:
    """One pass over the nodes of a graph, in whose order every node stands behind its inputs.

    `values[number]` is the array of a node that images do not change, `symbols[number]` the new symbol of another.
    """

    def __init__(self, content: Dict[str, Any], arrays: Arrays, fold: bool):
        self._nodes, self._arrays, self._fold = content["nodes"], arrays, fold
        self._heads = [_entry(head) for head in content["heads"]]
        self._values: Dict[int, mx.nd.NDArray] = {}
        self._symbols: Dict[int, mx.sym.Symbol] = {}
        self._kept: Arrays = {}
        self._readers = [0] * len(self._nodes)
        for number, _ in [*self._heads, *(_entry(entry) for node in self._nodes for entry in node["inputs"])]:
            self._readers[number] += 1

    def result(self) -> StaticGraph:
        for number, node in enumerate(self._nodes):
            inputs = [_entry(entry) for entry in node["inputs"]]
            if node["name"] == "data":
                self._symbols[number] = mx.sym.var("data", dtype="float32")
            elif node["op"] == "null":
                self._values[number] = self._arrays[node["name"]].as_in_context(mx.cpu())
            elif all(source in self._values for source, _ in inputs):
                self._values[number] = _operator(mx.nd, node)(*(self._values[source] for source, _ in inputs))
            else:
                self._symbols[number] = self._rewritten(number, node, inputs)
        symbol = mx.sym.Group([self._symbols[number][index] for number, index in self._heads])
        needed = set(symbol.list_inputs()) - {"data"}
        return StaticGraph(symbol, {name: array for name, array in self._kept.items() if name in needed})

    def _rewritten(self, number: int, node: Dict[str, Any], inputs: List[Tuple[int, int]]) -> mx.sym.Symbol:
        if self._fold and node["op"] == "BatchNorm" and self._folds(inputs):
            return self._folded(node, inputs)
        names = _input_names(node)
        symbols = [
            self._parameter(f"{node['name']}_{names[place]}", self._values[source])
            if source in self._values
            else self._symbols[source][index]
            for place, (source, index) in enumerate(inputs)
        ]
        return _operator(mx.sym, node)(*symbols, name=node["name"])

    def _parameter(self, name: str, value: mx.nd.NDArray) -> mx.sym.Symbol:
        self._kept[name] = value.copy()
        return mx.sym.var(name, shape=value.shape)

    def _folds(self, inputs: List[Tuple[int, int]]) -> bool:
        source = inputs[0][0]
        fixed = (
            self._nodes[source]["op"] == "Convolution" and _entry(self._nodes[source]["inputs"][1])[0] in self._values
        )
        return fixed and self._readers[source] == 1

    def _folded(self, node: Dict[str, Any], inputs: List[Tuple[int, int]]) -> mx.sym.Symbol:
        """The convolution before a BN layer, with scaled weights and a bias, in the layer's place."""
        conv, attrs = self._nodes[inputs[0][0]], node.get("attrs", {})
        gamma, beta, mean, variance = (self._values[source].asnumpy().astype(np.float64) for source, _ in inputs[1:])
        if ast.literal_eval(attrs.get("fix_gamma", "True")):
            gamma = np.ones_like(gamma)
        scale = gamma / np.sqrt(variance + float(attrs.get("eps", 1e-3)))
        (source, index), *rest = (_entry(entry) for entry in conv["inputs"])
        weight, *bias = (self._values[parameter].asnumpy().astype(np.float64) for parameter, _ in rest)
        bias = beta + scale * ((bias[0] if bias else 0) - mean)
        weight *= scale.reshape(-1, 1, 1, 1)
        named = {"weight": weight, "bias": bias}
        parameters = [self._parameter(f"{conv['name']}_{name}", mx.nd.array(value)) for name, value in named.items()]
        folded = {**conv, "attrs": {**conv["attrs"], "no_bias": "False"}}
        return _operator(mx.sym, folded)(self._symbols[source][index], *parameters, name=conv["name"])


def _entry(entry: List[int]) -> Tuple[int, int]:
    return entry[0], entry[1]


def _operator(library, node: Dict[str, Any]):
    """The function of `mx.nd` or `mx.sym` that does what a node does, with its settings."""
    function = getattr(library, node["op"], None) or getattr(library._internal, node["op"])
    settings = {key: value for key, value in node.get("attrs", {}).items() if not key.startswith("__")}
    return lambda *inputs, **named: function(*inputs, **settings, **named)


_INPUTS = {
    "Convolution": ("data", "weight", "bias"),
    "FullyConnected": ("data", "weight", "bias"),
    "BatchNorm": ("data", "gamma", "beta", "running_mean", "running_var"),
}


def _input_names(node: Dict[str, Any]):
    return _INPUTS.get(node["op"]) or [f"input{place}" for place in range(len(node["inputs"]))]
