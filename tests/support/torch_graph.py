"""Runs the graph of one of our networks in PyTorch, operator by operator, with the same weights."""

import json
from ast import literal_eval
from typing import Callable, List

import numpy as np
import torch
import torch.nn.functional as functional

from gluon_effnets.deploy.graph.inference import inference_graph


def run(net, images: np.ndarray, dtype=torch.float32) -> np.ndarray:
    """Logits of `images` (N, C, H, W) in PyTorch's arithmetic. KeyError for an operator that stands not below."""
    return run_all(net, net.collect_params(), images, dtype)[0]


def run_all(net: Callable, params, images: np.ndarray, dtype=torch.float32) -> List[np.ndarray]:
    """All outputs of a function from a symbol to one, whose parameters are `params`."""
    graph = json.loads(inference_graph(net).tojson())
    values = {name: torch.tensor(param.data().asnumpy()).to(dtype) for name, param in params.items()}
    values["data"] = torch.tensor(images).to(dtype)
    results = []
    for node in graph["nodes"]:
        inputs = [results[index] for index, *_ in node["inputs"]]
        is_input = node["op"] == "null"
        results.append(values[node["name"]] if is_input else _OPERATORS[node["op"]](node.get("attrs", {}), *inputs))
    return [results[index].numpy() for index, *_ in graph["heads"]]


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


def _pooling(attrs, x):
    if attrs["global_pool"] == "True":
        return x.mean((2, 3), keepdim=True)
    kernel, stride, padding = (literal_eval(attrs[key]) for key in ("kernel", "stride", "pad"))
    if attrs["pool_type"] == "max":
        return functional.max_pool2d(x, kernel, stride, padding)
    return functional.avg_pool2d(x, kernel, stride, padding, count_include_pad=attrs["count_include_pad"] == "True")


def _reshape(attrs, x):
    """Of MXNet's codes those in use: 0 keeps an axis, -2 all that are left, -3 merges two; -1 is what remains."""
    sizes, axis = [], 0
    for code in literal_eval(attrs["shape"]):
        if code == -2:
            sizes += x.shape[axis:]
            continue
        kept = {0: x.shape[axis : axis + 1], -3: x.shape[axis : axis + 2]}.get(code)
        sizes.append(code if kept is None else kept.numel())
        axis += 2 if code == -3 else 1
    return x.reshape(sizes)


def _reshape_like(attrs, x, like):
    begin, end = int(attrs.get("lhs_begin", 0)), int(attrs.get("lhs_end", x.dim()))
    first, last = int(attrs.get("rhs_begin", 0)), int(attrs.get("rhs_end", like.dim()))
    return x.reshape(*x.shape[:begin], *like.shape[first:last], *x.shape[end:])


_OPERATORS = {
    "Activation": lambda attrs, x: {"relu": torch.relu, "sigmoid": torch.sigmoid}[attrs["act_type"]](x),
    "BatchNorm": _batch_norm,
    "Concat": lambda attrs, *parts: torch.cat(parts, int(attrs.get("dim", 1))),
    "Convolution": _convolution,
    "Dropout": lambda attrs, x: x,
    "Flatten": lambda attrs, x: x.flatten(1),
    "FullyConnected": lambda attrs, x, weight, bias=None: functional.linear(x, weight, bias),
    "Pad": _pad,
    "Pooling": _pooling,
    "Reshape": _reshape,
    "SwapAxis": lambda attrs, x: x.transpose(int(attrs["dim1"]), int(attrs["dim2"])),
    "broadcast_mul": lambda attrs, x, y: x * y,
    "clip": lambda attrs, x: x.clamp(float(attrs["a_min"]), float(attrs["a_max"])),
    "elemwise_add": lambda attrs, x, y: x + y,
    "elemwise_mul": lambda attrs, x, y: x * y,
    "hard_sigmoid": lambda attrs, x: functional.relu6(x + 3) / 6,  # alpha 1/6, beta 1/2, the only use
    "reshape_like": _reshape_like,
    "sigmoid": lambda attrs, x: torch.sigmoid(x),
    "slice_axis": _slice,
    "transpose": lambda attrs, x: x.permute(literal_eval(attrs["axes"])),
}
