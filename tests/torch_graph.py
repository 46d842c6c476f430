"""Runs the graph of one of our networks in PyTorch, operator by operator, with the same weights."""

import json
from ast import literal_eval

import mxnet as mx
import numpy as np
import torch
import torch.nn.functional as functional


def run(net, images: np.ndarray, dtype=torch.float32) -> np.ndarray:
    """Logits of `images` (N, C, H, W) in PyTorch's arithmetic. KeyError for an operator that stands not below."""
    graph = json.loads(net(mx.sym.var("data")).tojson())
    values = {name: torch.tensor(param.data().asnumpy()).to(dtype) for name, param in net.collect_params().items()}
    values["data"] = torch.tensor(images).to(dtype)
    results = []
    for node in graph["nodes"]:
        inputs = [results[index] for index, *_ in node["inputs"]]
        is_input = node["op"] == "null"
        results.append(values[node["name"]] if is_input else _OPERATORS[node["op"]](node.get("attrs", {}), *inputs))
    return results[graph["heads"][0][0]].numpy()


def _convolution(attrs, x, weight, bias=None):
    stride, padding = literal_eval(attrs["stride"]), literal_eval(attrs["pad"])
    return functional.conv2d(x, weight, bias, stride, padding, groups=int(attrs["num_group"]))


def _batch_norm(attrs, x, gamma, beta, mean, var):
    return functional.batch_norm(x, mean, var, gamma, beta, training=False, eps=float(attrs["eps"]))


def _pad(attrs, x):
    top, bottom, left, right = literal_eval(attrs["pad_width"])[4:]
    return functional.pad(x, (left, right, top, bottom))


def _slice(attrs, x):
    return x[:, int(attrs["begin"]) : None if attrs["end"] == "None" else int(attrs["end"])]


_OPERATORS = {
    "Activation": lambda attrs, x: {"relu": torch.relu, "sigmoid": torch.sigmoid}[attrs["act_type"]](x),
    "BatchNorm": _batch_norm,
    "Concat": lambda attrs, *parts: torch.cat(parts, 1),
    "Convolution": _convolution,
    "Dropout": lambda attrs, x: x,
    "Flatten": lambda attrs, x: x.flatten(1),
    "FullyConnected": lambda attrs, x, weight, bias: functional.linear(x, weight, bias),
    "Pad": _pad,
    "Pooling": lambda attrs, x: x.mean((2, 3), keepdim=True),  # global average, the only one in these networks
    "Reshape": lambda attrs, x: x.flatten(2),  # merges the spatial axes, the only use
    "broadcast_mul": lambda attrs, x, y: x * y,
    "clip": lambda attrs, x: x.clamp(float(attrs["a_min"]), float(attrs["a_max"])),
    "elemwise_add": lambda attrs, x, y: x + y,
    "elemwise_mul": lambda attrs, x, y: x * y,
    "hard_sigmoid": lambda attrs, x: functional.relu6(x + 3) / 6,  # alpha 1/6, beta 1/2, the only use
    "reshape_like": lambda attrs, x, like: x.reshape(*x.shape[:2], *like.shape[2:]),
    "sigmoid": lambda attrs, x: torch.sigmoid(x),
    "slice_axis": _slice,
}
