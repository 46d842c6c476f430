"""Static graphs: slices of parameters taken once and for all, BN folded into convolutions, Swish by oneDNN."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Set, Tuple, Union

import mxnet as mx
import numpy as np

from .batch_norm import Affine
from .inference import Arrays, StaticGraph

__all__ = ["static_graph"]


def static_graph(symbol: mx.sym.Symbol, arrays: Arrays, fold: bool = True) -> StaticGraph:
    """Return an equal graph whose parameters are what is used of them; what depends on them alone is computed here.

    The values of the result are copies on the CPU: parameters under their own names, what is computed under the names
    of the layers that read it.

    Parameters
    ----------
    symbol, arrays : a graph with the input `data`, and the values of all its other inputs.
    fold : BN becomes part of the convolution before it.
    """
    content = json.loads(symbol.tojson(remove_amp_cast=True))
    return _Rewriting(content, arrays, fold).result()


class _Rewriting:
    """One pass over the nodes of a graph, in whose order every node stands behind its inputs.

    `values[number]` is the array of a node that images do not change, `symbols[number]` the new symbol of another.
    """

    def __init__(self, content: Dict[str, Any], arrays: Arrays, fold: bool):
        self._nodes, self._arrays, self._fold = content["nodes"], arrays, fold
        self._heads = [_entry(head) for head in content["heads"]]
        self._values: Dict[int, Union[mx.nd.NDArray, List[mx.nd.NDArray]]] = {}
        self._symbols: Dict[int, mx.sym.Symbol] = {}
        self._roles: Dict[int, Set[str]] = {}  # last words of the parameters that a value is computed from
        self._before_bn: Set[int] = set()  # convolutions that have no symbol of their own
        self._kept: Arrays = {}
        self._variables: Dict[str, mx.sym.Symbol] = {}
        self._readers: List[List[str]] = [[] for _ in self._nodes]  # the operators that read a node
        for node in [*self._nodes, {"op": "output", "inputs": content["heads"]}]:
            for entry in node["inputs"]:
                self._readers[entry[0]].append(node["op"])

    def result(self) -> StaticGraph:
        for number, node in enumerate(self._nodes):
            inputs = [_entry(entry) for entry in node["inputs"]]
            if node["name"] == "data":
                self._symbols[number] = mx.sym.var("data", dtype="float32")
            elif node["op"] == "null":
                self._values[number] = self._arrays[node["name"]].as_in_context(mx.cpu())
                self._roles[number] = {node["name"].rsplit("_", 1)[-1]}
            elif all(source in self._values for source, _ in inputs):
                self._values[number] = _operator(mx.nd, node)(*(self._value(entry) for entry in inputs))
                self._roles[number] = {role for source, _ in inputs for role in self._roles[source]}
            elif self._folds(number, inputs):
                self._before_bn.add(number)
            else:
                self._symbols[number] = self._rewritten(node, inputs)
        symbol = mx.sym.Group([self._symbols[number][index] for number, index in self._heads])
        needed = set(symbol.list_inputs()) - {"data"}
        return StaticGraph(symbol, {name: array for name, array in self._kept.items() if name in needed})

    def _rewritten(self, node: Dict[str, Any], inputs: List[Tuple[int, int]]) -> mx.sym.Symbol:
        if node["op"] == "BatchNorm" and inputs[0][0] in self._before_bn:
            return self._folded(node, inputs)
        symbols = [
            self._parameter(self._name(node, place, source), self._value((source, index)))
            if source in self._values
            else self._symbols[source][index]
            for place, (source, index) in enumerate(inputs)
        ]
        return _operator(mx.sym, node)(*symbols, name=node["name"])

    def _value(self, entry: Tuple[int, int]) -> mx.nd.NDArray:
        value = self._values[entry[0]]
        return value[entry[1]] if isinstance(value, list) else value

    def _name(self, reader: Dict[str, Any], place: int, number: int) -> str:
        """The name of what one node gives another: a parameter's own, or the reader's with what it is computed from."""
        if self._nodes[number]["op"] == "null":
            return self._nodes[number]["name"]
        roles = self._roles[number]
        if reader["op"] in _INPUTS:
            role = _INPUTS[reader["op"]][place]
        else:
            role = next(iter(roles)) if len(roles) == 1 else f"input{place}"
        return f"{_layer(reader)}_{role}"

    def _parameter(self, name: str, value: mx.nd.NDArray) -> mx.sym.Symbol:
        # A parameter that several layers read may be there already, with BN folded into it.
        while name in self._kept and not np.array_equal(self._kept[name].asnumpy(), value.asnumpy()):
            name += "_again"
        # Of a parameter that several layers read there is one variable, as there is one array.
        if name not in self._variables:
            self._kept[name], self._variables[name] = value.copy(), mx.sym.var(name, shape=value.shape)
        return self._variables[name]

    def _folds(self, number: int, inputs: List[Tuple[int, int]]) -> bool:
        """Whether a node is a convolution whose only reader is BN."""
        return (
            self._fold
            and self._nodes[number]["op"] == "Convolution"
            and self._readers[number] == ["BatchNorm"]
            and all(source in self._values for source, _ in inputs[1:])
        )

    def _folded(self, node: Dict[str, Any], inputs: List[Tuple[int, int]]) -> mx.sym.Symbol:
        """The convolution before a BN layer, with scaled weights and a bias, in the layer's place."""
        conv = self._nodes[inputs[0][0]]
        norm = Affine.of([self._value(entry).asnumpy() for entry in inputs[1:]], node.get("attrs", {}))
        (source, index), *rest = (_entry(entry) for entry in conv["inputs"])
        values = norm.folded(*(self._value(entry).asnumpy() for entry in rest))
        names = (f"{_layer(conv)}_{role}" for role in ("weight", "bias"))
        parameters = [self._parameter(name, mx.nd.array(value)) for name, value in zip(names, values)]
        folded = {**conv, "attrs": {**conv["attrs"], "no_bias": "False"}}
        return _operator(mx.sym, folded)(self._symbols[source][index], *parameters, name=conv["name"])


def _layer(node: Dict[str, Any]) -> str:
    """The name of a node without what Gluon appends to that of the block."""
    return node["name"][: -len("_fwd")] if node["name"].endswith("_fwd") else node["name"]


def _entry(entry: List[int]) -> Tuple[int, int]:
    return entry[0], entry[1]


def _operator(library, node: Dict[str, Any]):
    """The function of `mx.nd` or `mx.sym` that does what a node does, with its settings."""
    name, contrib = node["op"], "_contrib_"
    if name.startswith(contrib):
        function = getattr(library.contrib, name[len(contrib) :])
    else:
        function = getattr(library, name, None) or getattr(library._internal, name)
    settings = {key: value for key, value in node.get("attrs", {}).items() if not key.startswith("__")}
    return lambda *inputs, **named: function(*inputs, **settings, **named)


_INPUTS = {
    "Convolution": ("data", "weight", "bias"),
    "FullyConnected": ("data", "weight", "bias"),
    "BatchNorm": ("data", "gamma", "beta", "running_mean", "running_var"),
}
