"""TensorFlow Lite files of chains of convolutions: float, or 8 bits that become float again.

In these files BN is part of the convolutions. A network of ours gets it back as one that changes nothing but adds the
bias, so that all that is done with a network can be done with this one. The key of a layer says what the file does
there: '03.conv1x1.relu6.weight'.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from .._requirements import optional_import
from ..files.regular import MOST_WEIGHTS, read_bytes
from .checkpoint import Checkpoint

__all__ = ["BN_EPSILON", "VERSION_KEY", "read_tflite_file"]

log = logging.getLogger(__name__)

# Of the file's format, by which these checkpoints are recognized.
VERSION_KEY = "tensorflow_lite.version"
# For which the variances are made.
BN_EPSILON = 1e-3
# What slim and the Lite networks call the class before ImageNet's first.
_WITH_BACKGROUND, _CLASSES = 1001, 1000
_FLOAT32, _INT32, _UINT8, _INT8 = 0, 2, 3, 9  # TensorType of the schema
_TYPES = {_FLOAT32: "<f4", _INT32: "<i4", _UINT8: "u1", _INT8: "i1"}
_ACTIVATIONS = {0: "linear", 1: "relu", 3: "relu6"}  # ActivationFunctionType
_PASSED_OVER = {"ADD", "AVERAGE_POOL_2D", "DEQUANTIZE", "MEAN", "PAD", "QUANTIZE", "RESHAPE", "SOFTMAX", "SQUEEZE"}
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


class _Tensor(NamedTuple):
    shape: Tuple[int, ...]
    type: int
    scales: np.ndarray  # empty: not quantized
    zeros: np.ndarray
    axis: int  # of more than one scale
    numbers: Optional[np.ndarray]  # None: not a constant


def read_tflite_file(path: Path) -> Checkpoint:
    """Return the weights of a TensorFlow Lite file by the place and the kind of their layer, as float32.

    Class 0 of 1001, the background, is left out.

    Args:
        path: A file with one chain of convolutions, depthwise convolutions and additions.

    Raises:
        ImportError: Without the package tflite.
        ValueError: It is damaged, no such file, or has other operators.
    """
    tflite = optional_import("tflite", extra="tflite", why=f"read {path.name}")
    content = read_bytes(path, "checkpoint", MOST_WEIGHTS)
    if content[4:8] != b"TFL3":
        raise ValueError("it does not begin as TensorFlow Lite files do")
    try:
        return _state(tflite, tflite.Model.GetRootAsModel(content, 0))
    # What offsets that lead out of the file make the reader of flatbuffers raise.
    except (struct.error, IndexError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError) as error:
        raise ValueError(f"its tables are damaged ({type(error).__name__})") from None


def _state(tflite: Any, model: Any) -> Checkpoint:
    if model.SubgraphsLength() != 1:
        raise ValueError(f"it has {model.SubgraphsLength()} graphs instead of one")
    graph = model.Subgraphs(0)
    state, layers = Checkpoint(), list(_layers(tflite, model, graph))
    for number, (kind, weight, bias) in enumerate(layers):
        if number + 1 < len(layers):
            state.update(_with_plain_bn(f"{number:02d}.{kind}", weight, bias))
    if not layers:
        raise ValueError("it has no convolutions")
    weight, bias = layers[-1].weight, layers[-1].bias
    if len(bias) == _WITH_BACKGROUND:
        log.info("class 0 of 1001, the background, is left out")
        weight, bias = weight[-_CLASSES:], bias[-_CLASSES:]
    state.update({"classifier.weight": weight.reshape(weight.shape[:2]), "classifier.bias": bias})
    state[VERSION_KEY] = np.array(model.Version(), np.int32)
    state.preprocessing = _input(_tensor(model, graph, graph.Inputs(0)))
    return state


class _Layer(NamedTuple):
    kind: str
    weight: np.ndarray  # as ours: (out, in, height, width), depthwise (out, 1, height, width)
    bias: np.ndarray


def _layers(tflite: Any, model: Any, graph: Any) -> Iterator[_Layer]:
    names = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # The first field was too small for later operators, so newer files use a second one.
        name = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "of an unknown kind")
        if name in _WEIGHTED:
            yield _layer(tflite, model, graph, operator, name)
        elif name not in _PASSED_OVER:
            raise ValueError(f"its operator {number} is {name}, which none of the networks known here has")


def _layer(tflite: Any, model: Any, graph: Any, operator: Any, name: str) -> _Layer:
    inputs = [_tensor(model, graph, operator.Inputs(place)) for place in range(operator.InputsLength())]
    if len(inputs) != 3 or inputs[1].numbers is None or inputs[2].numbers is None:
        raise ValueError(f"a {name} has not the inputs images, weight and bias")
    data, weight, bias = inputs
    depthwise = name == "DEPTHWISE_CONV_2D"
    numbers = _dequantized(weight, axis=3 if depthwise else 0)
    if name == "FULLY_CONNECTED":
        return _Layer("classifier", numbers.reshape(*numbers.shape, 1, 1), _bias(bias, data, weight))
    if numbers.ndim != 4:
        raise ValueError(f"the weight of a {name} has {numbers.ndim} axes instead of 4")
    # (out, height, width, in), depthwise (1, height, width, out)
    numbers = np.ascontiguousarray(numbers.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)))
    options = tflite.DepthwiseConv2DOptions() if depthwise else tflite.Conv2DOptions()
    table = operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    height, width = numbers.shape[2:]
    if options.DilationWFactor() != 1 or options.StrideW() != options.StrideH() or height != width:
        raise ValueError(f"a {name} is dilated, or of sides that differ")
    if options.Padding() != 0 and height > 1:
        raise ValueError(f"a {name} is not padded to the same size, as all networks known here are")
    activation = _ACTIVATIONS.get(options.FusedActivationFunction(), "of an unknown activation")
    stride = f"s{options.StrideW()}" if options.StrideW() > 1 else ""
    kind = f"{'depthwise' if depthwise else 'conv'}{height}x{width}{stride}.{activation}"
    return _Layer(kind, numbers, _bias(bias, data, weight))


def _tensor(model: Any, graph: Any, index: int) -> _Tensor:
    if not 0 <= index < graph.TensorsLength():
        raise ValueError(f"it refers to tensor {index} of {graph.TensorsLength()}")
    tensor = graph.Tensors(index)
    if not 0 <= tensor.Buffer() < model.BuffersLength():
        raise ValueError(f"it refers to buffer {tensor.Buffer()} of {model.BuffersLength()}")
    shape = tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
    quantization, buffer = tensor.Quantization(), model.Buffers(tensor.Buffer())
    scales = zeros = np.zeros(0)
    if quantization is not None and quantization.ScaleLength():
        scales, zeros = np.array(quantization.ScaleAsNumpy()), np.array(quantization.ZeroPointAsNumpy())
    numbers = None
    if buffer.DataLength():
        if tensor.Type() not in _TYPES:
            raise ValueError("it has numbers of a type other than float32, int32, int8 and uint8")
        numbers = np.frombuffer(buffer.DataAsNumpy().tobytes(), _TYPES[tensor.Type()])
        if min(shape, default=1) < 0 or numbers.size != int(np.prod(shape, dtype=object)):
            raise ValueError(f"a tensor of shape {shape} has {numbers.size} numbers")
        numbers = numbers.reshape(shape)
    axis = quantization.QuantizedDimension() if quantization is not None else 0
    return _Tensor(shape, tensor.Type(), scales, zeros, axis, numbers)


def _dequantized(tensor: _Tensor, axis: int) -> np.ndarray:
    """The numbers as float32: (q - zero) * scale, for the tensor or for each of its output channels."""
    assert tensor.numbers is not None
    if tensor.type == _FLOAT32:
        return tensor.numbers.astype(np.float32)
    scales, zeros = tensor.scales, tensor.zeros
    if len(scales) != len(zeros) or len(scales) not in (1, tensor.shape[axis]):
        raise ValueError(f"a weight of shape {tensor.shape} has {len(scales)} scales and {len(zeros)} zero points")
    if len(scales) > 1 and tensor.axis != axis:
        raise ValueError(f"a weight has scales along axis {tensor.axis} instead of {axis}")
    shape = [1] * len(tensor.shape)
    shape[axis] = -1
    numbers = tensor.numbers.astype(np.float64) - zeros.reshape(shape)
    return (numbers * scales.astype(np.float64).reshape(shape)).astype(np.float32)


def _bias(bias: _Tensor, data: _Tensor, weight: _Tensor) -> np.ndarray:
    """The bias as float32; in 8 bits it counts products of input and weight."""
    assert bias.numbers is not None
    if bias.type == _FLOAT32:
        return bias.numbers.astype(np.float32)
    if len(data.scales) != 1 or len(weight.scales) not in (1, len(bias.numbers)):
        raise ValueError("a bias of whole numbers has an input or a weight without scales")
    return (bias.numbers * (float(data.scales[0]) * weight.scales.astype(np.float64))).astype(np.float32)


def _with_plain_bn(name: str, weight: np.ndarray, bias: np.ndarray) -> Dict[str, np.ndarray]:
    one = np.ones(len(bias), np.float32)
    # The variance that gives 1 together with the epsilon.
    bn = {"weight": one, "bias": bias, "running_mean": 0 * one, "running_var": one - BN_EPSILON}
    return {f"{name}.weight": weight, **{f"{name}.bn.{key}": value.astype(np.float32) for key, value in bn.items()}}


def _input(tensor: _Tensor) -> Dict[str, Any]:
    """What the input says of the preprocessing: its side, and of 8 bits what the numbers of a pixel mean."""
    if len(tensor.shape) != 4 or tensor.shape[1] != tensor.shape[2] or not 0 < tensor.shape[1] < 10_000:
        raise ValueError(f"its input has the shape {tensor.shape} instead of (1, side, side, channels)")
    side, channels = tensor.shape[1], tensor.shape[3]
    if not len(tensor.scales):
        return {"image_size": side}
    scale, zero = float(tensor.scales[0]), float(tensor.zeros[0])
    if not 0 < scale < 1e6:
        raise ValueError(f"its input has the scale {scale}")
    # int8 counts from -128.
    mean, std = zero + (128 if tensor.type == _INT8 else 0), round(1 / scale, 4)
    return {"image_size": side, "mean": (mean,) * channels, "std": (std,) * channels}
