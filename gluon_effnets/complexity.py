"""Parameters and multiply-adds of a network, counted on the graph that it really runs."""

from __future__ import annotations

import json
import math
from ast import literal_eval
from typing import Any, Dict, List, NamedTuple, Tuple

from ._mxnet import mx
from .files.schema import check_type, whole
from .models import ClassificationNet
from .nn.variants import inference_variants

__all__ = ["RULES", "Complexity", "LayerCost", "condensed_options", "count", "count_params", "layer_costs"]

RULES = {
    "conv_fc": "multiply-adds of convolutions and fully connected layers; everything else is free",
    "conv": "the same without fully connected layers, as if the network ended before its classifier",
    "conv_fc_relu_pool": "conv_fc, plus one per bias addition, per ReLU output and per input of a global pooling",
    "conv_fc_pool": "conv_fc, plus one per value that an average pooling reads (as in the code of DS-Net)",
    "condensenet": "conv_fc, plus one per bias addition, per ReLU and h-sigmoid output and per value that a pooling "
    "reads, and two per sigmoid output; BN, products, sums, index and shuffle are free (as in the authors' scripts)",
    "condensenetv2": "the same without biases",
}
_CONDENSENETS = ("condensenet", "condensenetv2")
_WITH_RELU = ("conv_fc_relu_pool", *_CONDENSENETS)


class LayerCost(NamedTuple):
    """Cost of one operator, for one image.

    Attributes:
        name: Of the operator in the graph.
        op: Its kind, such as 'Convolution'.
        output: Shape of its output, (1, channels, height, width).
        madds: Multiply-adds.
    """

    name: str
    op: str
    output: Tuple[int, ...]
    madds: int


class Complexity(NamedTuple):
    """Parameters and multiply-adds for one image of `image_size` x `image_size`, by `rule`.

    Attributes:
        params: Number of trained values.
        madds: Multiply-adds for one image.
        image_size: Side of the image, in pixels.
        rule: A key of `RULES`.
    """

    params: int
    madds: int
    image_size: int
    rule: str


def count(net: mx.gluon.HybridBlock, image_size: int = 224, rule: str = "conv_fc") -> Complexity:
    """Count a network at one input size.

    Args:
        net: A network, block or detector; its parameters need not be initialized.
        image_size: Side of the image, in pixels.
        rule: A key of `RULES`: what is counted.

    Raises:
        TypeError: It is no network or no size.
        ValueError: An unknown rule, or a size that the network cannot take.

    Example:
        >>> count(get_model("efficientnet_b0")).params
        5288548
    """
    check_type("net", net, mx.gluon.HybridBlock, words="a network")
    check_type("image_size", image_size, int, words="a whole number of pixels")
    whole(1, 1 << 14)(image_size, "image_size")
    madds = sum(layer.madds for layer in layer_costs(net, image_size, rule))
    return Complexity(count_params(net), madds, image_size, rule)


def count_params(net: mx.gluon.HybridBlock) -> int:
    """Number of trained values: weights, biases, BN gamma and beta, but no running statistics.

    Of a width of a slimmable network only what that width uses.

    Args:
        net: A network, block or detector.
    """
    net = _counted(net)
    active = net.active_shapes() if hasattr(net, "active_shapes") else {}
    params = net.collect_params().values()
    return sum(math.prod(active.get(p.name, p.shape)) for p in params if p.grad_req != "null")


def condensed_options(net: ClassificationNet) -> Dict[str, Any]:
    """Options of the form of a registered network with masked layers whose costs are published: the deployed one.

    Empty for other networks, and for those that are condensed. Of CondenseNet's published costs those for ImageNet are
    with half of the classifier's inputs, those for CIFAR with all of them; CondenseNetV2's authors drop none.

    Args:
        net: A registered network.
    """
    if net.info is None or net.definition().get("condensed", True):
        return {}
    half = net.info.family == "condensenet" and net.info.input_size == 224
    return {"condensed": True, **({"condensed_classifier": True} if half else {})}


def layer_costs(net: mx.gluon.HybridBlock, image_size: int = 224, rule: str = "conv_fc") -> List[LayerCost]:
    """Cost of every operator that has one, in the order in which the forward pass executes them.

    `net.in_channels` gives the input's channels (3 if there is no such attribute).

    Args:
        net: A network, block or detector.
        image_size: Side of the image, in pixels.
        rule: A key of `RULES`.
    """
    if rule not in RULES:
        raise ValueError(f"unknown counting rule {rule!r}; choose one of {', '.join(RULES)}")
    with inference_variants():
        outputs = _counted(net)(mx.sym.var("data"))
    # A detector has several.
    internals = (mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs).get_internals()
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


def _counted(net: mx.gluon.HybridBlock) -> mx.gluon.HybridBlock:
    """Return what is counted of a network: of a detector that is no single graph, its widest width."""
    return net.at_width(net.widths[-1]) if hasattr(net, "at_width") else net


def _matrix(attrs, inputs, output, rule):
    """Every output of a convolution or dense layer is a sum over one row of the weight (out, in / groups, ...)."""
    biased = rule in ("conv_fc_relu_pool", "condensenet") and len(inputs) > 2
    return math.prod(output) * (math.prod(inputs[1][1:]) + biased)


def _activation(attrs, inputs, output, rule):
    per_output = {"relu": rule in _WITH_RELU, "sigmoid": 2 * (rule in _CONDENSENETS)}
    return per_output.get(attrs["act_type"], 0) * math.prod(output)


def _hard_sigmoid(attrs, inputs, output, rule):
    return math.prod(output) if rule in _CONDENSENETS else 0


def _pooling(attrs, inputs, output, rule):
    if attrs.get("global_pool") == "True":
        return math.prod(inputs[0]) if rule in (*_WITH_RELU, "conv_fc_pool") else 0
    counted = rule in _CONDENSENETS or (rule == "conv_fc_pool" and attrs.get("pool_type") == "avg")
    return math.prod(output) * math.prod(literal_eval(attrs["kernel"])) if counted else 0


def _fully_connected(attrs, inputs, output, rule):
    return 0 if rule == "conv" else _matrix(attrs, inputs, output, rule)


_COSTS = {
    "Activation": _activation,
    "Convolution": _matrix,
    "FullyConnected": _fully_connected,
    "Pooling": _pooling,
    "hard_sigmoid": _hard_sigmoid,
}
