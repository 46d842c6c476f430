"""MXNet's operators in ONNX: one function for each that the inference graphs of the package use."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Union

import numpy as np

from ..._requirements import optional_import
from ..graph.nodes import CONSTANT, Entry, Node, Shape, sorted_nodes

__all__ = ["OnnxNodes"]

_HARD_SWISH = "hard_swish"  # not an operator of MXNet
_H_SIGMOID = (round(1 / 6, 7), 0.5)


class OnnxNodes:
    """The nodes and initializers of the ONNX graph that computes `outputs`, each under its name there.

    `data` : name of the input. `taken` : names that no node may have; those of this graph are added. `own` : functions,
    as those of this module, for operators that are no operators of MXNet.
    Raises ValueError naming the operator that cannot be expressed.
    """

    def __init__(
        self,
        outputs: Dict[str, Entry],
        data: str = "data",
        taken: Optional[Set[str]] = None,
        own: Mapping[str, Callable] = MappingProxyType({}),
    ):
        onnx = optional_import("onnx", "onnx", "export to ONNX")
        self._helper, self._to_tensor = onnx.helper, onnx.numpy_helper.from_array
        self.nodes: List[Any] = []
        self.initializers: List[Any] = []
        self._constants: Dict[bytes, str] = {}
        self._taken = set() if taken is None else taken
        self._taken.update([data, *outputs])
        names: Dict[Entry, str] = {}
        for node in sorted_nodes(list(outputs.values())):
            _become_hard_swish(node)
        for node in sorted_nodes(list(outputs.values())):
            if node.op == CONSTANT:
                names[Entry(node)] = self.constant(node.array, node.name)
            elif node.op == "null":
                names[Entry(node)] = data
            elif node.op in _OPERATORS or node.op in own:
                made = (own.get(node.op) or _OPERATORS[node.op])(self, node, [names[entry] for entry in node.inputs])
                names.update((Entry(node, i), part) for i, part in enumerate([made] if isinstance(made, str) else made))
            else:
                raise _refused(node)
        final = {names[entry]: name for name, entry in outputs.items()}
        for written in self.nodes:
            written.input[:] = [final.get(name, name) for name in written.input]
            written.output[:] = [final.get(name, name) for name in written.output]
        used = set(_read(self.nodes))
        self.initializers = [tensor for tensor in self.initializers if tensor.name in used]

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node, its attributes without those that are None; return the name of its output."""
        return self.add_parts(op, inputs, [name], **attributes)[0]

    def add_parts(self, op: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any) -> List[str]:
        """Add a node with several outputs."""
        attributes = {key: value for key, value in attributes.items() if value is not None}
        outputs = [self._free(name) for name in names]
        self.nodes.append(self._helper.make_node(op, inputs, outputs, outputs[0], **attributes))
        return outputs

    def constant(self, value: Union[np.ndarray, np.generic], name: str) -> str:
        """The name of an initializer with this value; equal ones are one."""
        array = np.asarray(value)
        key = array.tobytes() + repr((array.shape, array.dtype.str)).encode()
        if key not in self._constants:
            self._constants[key] = self._free(name)
            self.initializers.append(self._to_tensor(array, self._constants[key]))
        return self._constants[key]

    def bias(self, conv: Node) -> List[str]:
        """The name of an initializer for the bias of a convolution, which has one, of its own.

        OpenVINO takes a bias into the convolution only if nothing else reads it, and many are equal: those of BN before
        training, those of a head that several maps share.
        """
        if len(conv.inputs) < 3 or conv.inputs[2].node.op != CONSTANT:
            return []
        name = self._free(f"{conv.name}_bias")
        self.initializers.append(self._to_tensor(conv.inputs[2].node.array, name))
        return [name]

    def integers(self, values: Union[int, Sequence[int]], name: str) -> str:
        """The name of an initializer with whole numbers, or a single one without an axis."""
        return self.constant(np.array(values, np.int64), name)

    def release(self, names: Iterable[str]) -> None:
        """Let nodes have names that were taken before there were any."""
        self._taken.difference_update(names)

    def branch(self, name: str, build: Callable[[], str]) -> Any:
        """Return the nodes that `build` adds, which gives the name of their result, as a graph within this one."""
        begin = len(self.nodes)
        result = build()
        nodes = self.nodes[begin:]
        del self.nodes[begin:]
        value = self._helper.make_empty_tensor_value_info(result)
        value.type.tensor_type.elem_type = 1  # float32
        return self._helper.make_graph(nodes, name, [], [value])

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free in self._taken:
            free, number = f"{name}_{number}", number + 1
        self._taken.add(free)
        return free


def _read(nodes: Iterable[Any]) -> Iterator[str]:
    """What nodes read, and graphs within them."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            yield from _read(attribute.g.node)


def _become_hard_swish(node: Node) -> None:
    """Turn x * h-sigmoid(x) into one operator: OpenVINO takes it into the convolution before it, but not the two."""
    if node.op not in ("elemwise_mul", "broadcast_mul"):
        return
    for x, gate in (node.inputs, node.inputs[::-1]):
        alpha, beta = gate.node.get("alpha", 0.2), gate.node.get("beta", 0.5)
        if gate.node.op == "hard_sigmoid" and gate.node.inputs == [x] and (round(alpha, 7), beta) == _H_SIGMOID:
            node.op, node.attrs, node.inputs = _HARD_SWISH, {}, [x]
            return


def _refused(node: Node) -> ValueError:
    return ValueError(
        f"the operator {node.op} ({node.name}), as it is used here, has no form in ONNX; export to 'mxnet'"
    )


def _convolution(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    pad = node.get("pad", (0, 0))
    return graph.add(
        "Conv",
        [*inputs[:2], *(graph.bias(node) or inputs[2:])],
        node.name,
        kernel_shape=node.get("kernel"),
        strides=node.get("stride", (1, 1)),
        dilations=node.get("dilate", (1, 1)),
        pads=pad if len(pad) == 4 else (*pad, *pad),
        group=node.get("num_group", 1),
    )


def _transposed_convolution(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    pad, more = node.get("pad", (0, 0)), node.get("adj", (0, 0))
    if node.get("target_shape"):
        raise _refused(node)
    return graph.add(
        "ConvTranspose",
        inputs,
        node.name,
        kernel_shape=node.get("kernel"),
        strides=node.get("stride", (1, 1)),
        dilations=node.get("dilate", (1, 1)),
        pads=(*pad, *pad),
        output_padding=more if any(more) else None,
        group=node.get("num_group", 1),
    )


def _fully_connected(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    x, *weights = inputs
    if len(node.inputs[0].shape) > 2:
        x = graph.add("Flatten", [x], f"{node.name}_flat", axis=1)
    return graph.add("Gemm", [x, *weights], node.name, transB=1)


def _batch_norm(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    if node.get("fix_gamma", True):
        ones = np.ones_like(node.inputs[1].node.array)
        inputs = [inputs[0], graph.constant(ones, f"{node.name}_gamma"), *inputs[2:]]
    return graph.add("BatchNormalization", inputs, node.name, epsilon=float(node.get("eps", 1e-3)))


def _group_norm(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    # MXNet scales whole groups; every group as one channel is a case of instance normalization.
    x, *weights = inputs
    groups = node.get("num_groups")
    x = graph.add("Reshape", [x, graph.integers((0, groups, -1), "groups")], f"{node.name}_groups")
    x = graph.add("InstanceNormalization", [x, *weights], f"{node.name}_norm", epsilon=node.get("eps", 1e-5))
    return _reshaped(graph, x, node.shapes[0], node)


_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}


def _activation(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    if node.get("act_type") not in _ACTIVATIONS:
        raise _refused(node)
    return graph.add(_ACTIVATIONS[node.get("act_type")], inputs, node.name)


def _clip(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    limits = [graph.constant(np.float32(node.get(key)), key) for key in ("a_min", "a_max")]
    return graph.add("Clip", [*inputs, *limits], node.name)


def _hard_sigmoid(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    return graph.add("HardSigmoid", inputs, node.name, alpha=node.get("alpha", 0.2), beta=node.get("beta", 0.5))


def _pooling(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    kind = node.get("pool_type", "max")
    if kind not in ("max", "avg"):
        raise _refused(node)
    if node.get("global_pool", False):
        return graph.add({"max": "GlobalMaxPool", "avg": "GlobalAveragePool"}[kind], inputs, node.name)
    pad = node.get("pad", (0, 0))
    return graph.add(
        {"max": "MaxPool", "avg": "AveragePool"}[kind],
        inputs,
        node.name,
        kernel_shape=node.get("kernel"),
        strides=node.get("stride", (1, 1)),
        pads=(*pad, *pad),
        ceil_mode=int(node.get("pooling_convention", "valid") == "full"),
        count_include_pad=int(node.get("count_include_pad", True)) if kind == "avg" else None,
    )


def _adaptive_pooling(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    height, width, rows, columns = (entry.size(axis) for entry in (node.inputs[0], Entry(node)) for axis in (2, 3))
    if (height, width) == (rows, columns):
        return inputs[0]
    # For any sizes: averages of rows and columns as two products.
    over_rows = graph.constant(_averages(height, rows), f"{node.name}_rows")
    over_columns = graph.constant(_averages(width, columns).T, f"{node.name}_columns")
    x = graph.add("MatMul", [over_rows, inputs[0]], f"{node.name}_by_row")
    return graph.add("MatMul", [x, over_columns], node.name)


def _averages(size: int, bins: int) -> np.ndarray:
    weights = np.zeros((bins, size), np.float32)
    for i in range(bins):
        begin, end = i * size // bins, -(-(i + 1) * size // bins)
        weights[i, begin:end] = 1 / (end - begin)
    return weights


def _reshape(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    return _reshaped(graph, inputs[0], node.shapes[0], node)


def _reshaped(graph: OnnxNodes, x: str, shape: Shape, node: Node) -> str:
    if shape.count(None) > 1:
        raise _refused(node)
    return graph.add("Reshape", [x, graph.integers([-1 if n is None else n for n in shape], "shape")], node.name)


def _swap_axes(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    order = list(range(len(node.shapes[0])))
    one, other = node.get("dim1", 0), node.get("dim2", 0)
    order[one], order[other] = order[other], order[one]
    return graph.add("Transpose", inputs, node.name, perm=order)


def _slice_axis(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    end = node.get("end")
    values = (node.get("begin"), np.iinfo(np.int64).max if end is None else end, node.get("axis"))
    limits = [graph.integers([value], what) for value, what in zip(values, ("begin", "end", "axis"))]
    return graph.add("Slice", [*inputs, *limits], node.name)


def _slice_like(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    axes = node.get("axes") or range(len(node.shapes[0]))
    ends = graph.integers([Entry(node).size(axis) for axis in axes], "ends")
    return graph.add(
        "Slice",
        [inputs[0], graph.integers([0] * len(axes), "begins"), ends, graph.integers(list(axes), "axes")],
        node.name,
    )


def _resize(mode: str, coordinates: str, **rest: Any) -> Callable[[OnnxNodes, Node, List[str]], str]:
    def convert(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
        if not node.get("align_corners", True) or node.get("sample_type", "nearest") != "nearest":
            raise _refused(node)
        sides = ((Entry(node).size(axis), node.inputs[0].size(axis)) for axis in (2, 3))
        # Sides are rounded down: a bit more, so that none is short of a pixel, but not where pixels are found by it.
        more = 1 if mode == "nearest" else 1 + 1e-6
        scales = graph.constant(np.array([1, 1, *(a / b * more for a, b in sides)], np.float32), "scales")
        settings = {"mode": mode, "coordinate_transformation_mode": coordinates, **rest}
        return graph.add("Resize", [inputs[0], "", scales], node.name, **settings)

    return convert


def _expand_dims(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    return graph.add("Unsqueeze", [*inputs, graph.integers([node.get("axis")], "axis")], node.name)


def _take(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    index, axis = node.inputs[1].node.value, node.get("axis", 0)
    if index is None or node.get("mode", "clip") != "clip" or node.inputs[0].shape[axis] is None:
        raise _refused(node)
    index = np.clip(index, 0, node.inputs[0].shape[axis] - 1).astype(np.int64)
    return graph.add("Gather", [inputs[0], graph.constant(index, f"{node.name}_index")], node.name, axis=axis)


def _split(graph: OnnxNodes, node: Node, inputs: List[str]) -> List[str]:
    if node.get("squeeze_axis", False):
        raise _refused(node)
    names = [f"{node.name}_{i}" for i in range(node.get("num_outputs"))]
    return graph.add_parts("Split", inputs, names, axis=node.get("axis", 1), num_outputs=len(names))


def _transpose(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    return graph.add("Transpose", inputs, node.name, perm=node.get("axes") or None)


def _with_scalar(op: str) -> Callable[[OnnxNodes, Node, List[str]], str]:
    def convert(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
        scalar = graph.constant(np.float32(node.get("scalar")), f"{node.name}_scalar")
        return graph.add(op, [*inputs, scalar], node.name)

    return convert


def _softmax(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    if node.get("temperature") is not None or node.get("use_length", False):
        raise _refused(node)
    return graph.add("Softmax", inputs, node.name, axis=node.get("axis", -1))


def _zeros_like(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    # ONNX fills a shape only if it is computed, which keeps ONNX Runtime from planning its memory.
    return graph.add("Mul", [*inputs, graph.constant(np.float32(0), "zero")], node.name)


def _ones_like(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    return graph.add("Add", [_zeros_like(graph, node, inputs), graph.constant(np.float32(1), "one")], node.name)


def _local_response_norm(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    settings = {"alpha": node.get("alpha", 1e-4), "beta": node.get("beta", 0.75), "bias": float(node.get("knorm", 2))}
    return graph.add("LRN", inputs, node.name, size=node.get("nsize"), **settings)


def _argmax(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    # Integers, where MXNet gives floats: what is made of them in the graph would have to convert them first.
    if node.get("axis") is None:
        raise _refused(node)
    return graph.add("ArgMax", inputs, node.name, axis=node.get("axis"), keepdims=int(node.get("keepdims", False)))


def _greater_scalar(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    scalar = graph.constant(np.float32(node.get("scalar")), f"{node.name}_scalar")
    return graph.add("Cast", [graph.add("Greater", [*inputs, scalar], f"{node.name}_is")], node.name, to=1)


def _equal(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    return graph.add("Cast", [graph.add("Equal", inputs, f"{node.name}_is")], node.name, to=1)


def _where(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    condition = graph.add("Cast", inputs[:1], f"{node.name}_is", to=9)
    return graph.add("Where", [condition, *inputs[1:]], node.name)


def _arange_like(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    axis = node.get("axis")
    if axis is None or node.inputs[0].shape[axis] is None or node.get("repeat", 1) != 1:
        raise _refused(node)
    numbers = np.arange(node.inputs[0].size(axis), dtype=np.float32)
    return graph.constant(node.get("start", 0) + node.get("step", 1) * numbers, node.name)


def _repeat(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
    axis, times = node.get("axis"), node.get("repeats")
    if axis is None or axis < 0:
        raise _refused(node)
    x = graph.add("Unsqueeze", [*inputs, graph.integers([axis + 1], "axis")], f"{node.name}_apart")
    ones = [1] * len(node.shapes[0])
    x = graph.add(
        "Tile", [x, graph.integers([*ones[: axis + 1], times, *ones[axis + 1 :]], "times")], f"{node.name}_tiled"
    )
    return _reshaped(graph, x, node.shapes[0], node)


def _renamed(op: str, **keys: str) -> Callable[[OnnxNodes, Node, List[str]], str]:
    def convert(graph: OnnxNodes, node: Node, inputs: List[str]) -> str:
        return graph.add(op, inputs, node.name, **{name: node.get(key) for name, key in keys.items()})

    return convert


_OPERATORS: Dict[str, Callable] = {
    "Activation": _activation,
    "BatchNorm": _batch_norm,
    "Concat": _renamed("Concat", axis="dim"),
    "Convolution": _convolution,
    "Flatten": _renamed("Flatten"),
    "Deconvolution": _transposed_convolution,
    "FullyConnected": _fully_connected,
    "GroupNorm": _group_norm,
    "LRN": _local_response_norm,
    "Pooling": _pooling,
    "Reshape": _reshape,
    "SliceChannel": _split,
    "SwapAxis": _swap_axes,
    "UpSampling": _resize("nearest", "asymmetric", nearest_mode="floor"),
    "_contrib_AdaptiveAvgPooling2D": _adaptive_pooling,
    "_contrib_arange_like": _arange_like,
    "_contrib_BilinearResize2D": _resize("linear", "align_corners"),
    "_div_scalar": _with_scalar("Div"),
    "_greater_scalar": _greater_scalar,
    "_maximum": _renamed("Max"),
    "_minimum_scalar": _with_scalar("Min"),
    "_mul_scalar": _with_scalar("Mul"),
    "_plus_scalar": _with_scalar("Add"),
    "add_n": _renamed("Sum"),
    "argmax": _argmax,
    "broadcast_add": _renamed("Add"),
    "broadcast_div": _renamed("Div"),
    "broadcast_equal": _equal,
    "broadcast_maximum": _renamed("Max"),
    "broadcast_mul": _renamed("Mul"),
    "broadcast_sub": _renamed("Sub"),
    "clip": _clip,
    "elemwise_add": _renamed("Add"),
    "elemwise_mul": _renamed("Mul"),
    "elemwise_sub": _renamed("Sub"),
    "exp": _renamed("Exp"),
    "expand_dims": _expand_dims,
    "hard_sigmoid": _hard_sigmoid,
    _HARD_SWISH: _renamed("HardSwish"),
    "ones_like": _ones_like,
    "relu": _renamed("Relu"),
    "repeat": _repeat,
    "reshape_like": _reshape,
    "sigmoid": _renamed("Sigmoid"),
    "slice_axis": _slice_axis,
    "slice_like": _slice_like,
    "softmax": _softmax,
    "take": _take,
    "transpose": _transpose,
    "where": _where,
    "zeros_like": _zeros_like,
}
