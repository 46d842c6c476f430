"""Parameters and multiply-adds of a network, counted on the graph that it really runs."""

from __future__ import annotations

import json
import math
from typing import List, NamedTuple, Tuple

import mxnet as mx
from mxnet.gluon.block import HybridBlock

__all__ = ["RULES", "Complexity", "LayerCost", "count", "count_params", "layer_costs"]

RULES = {
    "conv_fc": "multiply-adds of convolutions and fully connected layers; everything else is free",
    "conv": "the same without fully connected layers, as if the network ended before its classifier",
    "conv_fc_relu_pool": "conv_fc, plus one per bias addition, per ReLU output and per input of a global pooling",
}


class LayerCost(NamedTuple):
    """Cost of one operator, for one image."""

    name: str
    op: str
    output: Tuple[int, ...]
    madds: int


class Complexity(NamedTuple):
    """Parameters and multiply-adds for one image of `image_size` x `image_size`, by `rule`."""

    params: int
    madds: int
    image_size: int
    rule: str


def count(net: HybridBlock, image_size: int = 224, rule: str = "conv_fc") -> Complexity:
    """Count a network at one input size. Raises ValueError for an unknown rule (see `RULES`)."""
    madds = sum(layer.madds for layer in layer_costs(net, image_size, rule))
    return Complexity(count_params(net), madds, image_size, rule)


def count_params(net: HybridBlock) -> int:
    """Number of trained values: weights, biases, BN gamma and beta, but no running statistics."""
    return sum(math.prod(p.shape) for p in net.collect_params().values() if p.grad_req != "null")


def layer_costs(net: HybridBlock, image_size: int = 224, rule: str = "conv_fc") -> List[LayerCost]:
    """Cost of every operator that has one, in the order in which the forward pass executes them.

    `net.in_channels` gives the input's channels (3 if there is no such attribute).
    """
    if rule not in RULES:
        raise ValueError(f"unknown counting rule {rule!r}; choose one of {', '.join(RULES)}")
    internals = net(mx.sym.var("data")).get_internals()
    _, shapes, _ = internals.infer_shape(data=(1, getattr(net, "in_channels", 3), image_size, image_size))
    graph = json.loads(internals.tojson())
    shape_of = {(index, slot): shape for (index, slot, *_), shape in zip(graph["heads"], shapes)}
    costs = []
    for number, node in enumerate(graph["nodes"]):
        if node["op"] not in _COSTS:
            continue
        inputs = [shape_of[index, slot] for index, slot, *_ in node["inputs"]]
        output = shape_of[number, 0]
        madds = _COSTS[node["op"]](node.get("attrs", {}), inputs, output, rule)
        if madds:
            costs.append(LayerCost(node["name"], node["op"], output, madds))
    return costs


def _matrix(attrs, inputs, output, rule):
    """Every output of a convolution or dense layer is a sum over one row of the weight (out, in / groups, ...)."""
    biased = rule == "conv_fc_relu_pool" and len(inputs) > 2
    return math.prod(output) * (math.prod(inputs[1][1:]) + biased)


def _activation(attrs, inputs, output, rule):
    return math.prod(output) if rule == "conv_fc_relu_pool" and attrs.get("act_type") == "relu" else 0


def _pooling(attrs, inputs, output, rule):
    return math.prod(inputs[0]) if rule == "conv_fc_relu_pool" and attrs.get("global_pool") == "True" else 0


def _fully_connected(attrs, inputs, output, rule):
    return 0 if rule == "conv" else _matrix(attrs, inputs, output, rule)


_COSTS = {
    "Convolution": _matrix,
    "FullyConnected": _fully_connected,
    "Activation": _activation,
    "Pooling": _pooling,
}
