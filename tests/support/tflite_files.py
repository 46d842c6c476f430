"""TensorFlow Lite files written for tests: a network of ours as a chain of convolutions, in float or in 8 bits."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import flatbuffers
import mxnet as mx
import numpy as np
import tflite
from mxnet.gluon import nn

from gluon_effnets.nn import ConvBN, ReLU6

FLOAT, INT32, UINT8, INT8 = 0, 2, 3, 9
TYPES = {np.dtype("f4"): FLOAT, np.dtype("i4"): INT32, np.dtype("u1"): UINT8, np.dtype("i1"): INT8}


class Numbers(NamedTuple):
    """A tensor of a file: an array, or the shape of one that is computed."""

    shape: Sequence[int]
    array: Optional[np.ndarray] = None
    type: int = FLOAT
    scales: Sequence[float] = ()
    zeros: Sequence[int] = ()
    axis: int = 0


class Layer(NamedTuple):
    """A convolution as TensorFlow Lite has it."""

    operator: str
    weight: Numbers
    bias: Numbers
    stride: int = 1
    activation: int = 0
    padding: int = 0
    dilation: int = 1


def layers_of(net, form: str = "float", channelwise: bool = False, input_scale: float = 1 / 128) -> List[Layer]:
    """The layers of a network with BN folded in; `form` is 'float', 'uint8' or 'int8'.

    In 8 bits every activation has the scale of the input, so that a bias is of the scale that its file says.
    """
    found = []
    for unit in _units(net.features):
        bn = {key: param.data().asnumpy() for key, param in unit.bn._reg_params.items()}
        factor = bn["gamma"] / np.sqrt(bn["running_var"] + unit.bn._kwargs["eps"])
        weight = unit.conv.weight.data().asnumpy() * factor[:, None, None, None]
        bias = bn["beta"] - bn["running_mean"] * factor
        depthwise = unit.conv._kwargs["num_group"] > 1
        relu6 = isinstance(unit.act, ReLU6)
        activation = 3 if relu6 else 1 if isinstance(unit.act, nn.Activation) else 0
        operator = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        found.append(_layer(operator, weight, bias, unit.stride, activation, form, channelwise, input_scale))
    dense = net.output.weight.data().asnumpy()[:, :, None, None]
    found.append(_layer("CONV_2D", dense, net.output.bias.data().asnumpy(), 1, 0, form, channelwise, input_scale))
    return found


def _units(block):
    if isinstance(block, ConvBN):
        yield block
        return
    for child in block._children.values():
        yield from _units(child)


def _layer(operator, weight, bias, stride, activation, form, channelwise, input_scale) -> Layer:
    depthwise = operator == "DEPTHWISE_CONV_2D"
    weight = weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)).astype(np.float32)
    if form == "float":
        return Layer(operator, Numbers(weight.shape, weight), Numbers(bias.shape, bias), stride, activation)
    axis = 3 if depthwise else 0
    others = tuple(place for place in range(4) if place != axis)
    largest = np.abs(weight).max(axis=others) if channelwise else np.abs(weight).max(keepdims=True).ravel()
    scales = np.maximum(largest, 1e-6) / 127
    shape = [1] * 4
    shape[axis] = -1
    whole = np.rint(weight / scales.reshape(shape if channelwise else [1] * 4))
    zero, kind = (128, np.uint8) if form == "uint8" else (0, np.int8)
    quantized = Numbers(
        weight.shape, (whole + zero).astype(kind), TYPES[np.dtype(kind)], scales, [zero] * len(scales), axis
    )
    steps = np.rint(bias / (scales * input_scale)).astype(np.int32)
    return Layer(operator, quantized, Numbers(bias.shape, steps, INT32), stride, activation)


def dequantized(layer: Layer, input_scale: float = 1 / 128) -> Dict[str, np.ndarray]:
    """Weight (as ours) and bias of a layer, as float."""
    weight, bias = layer.weight, layer.bias
    array, numbers = weight.array.astype(np.float64), bias.array.astype(np.float64)
    if weight.type != FLOAT:
        shape = [1] * 4
        shape[weight.axis] = -1
        scales = np.asarray(weight.scales, np.float32).astype(np.float64)
        array = (array - np.asarray(weight.zeros).reshape(shape)) * scales.reshape(shape)
        numbers = numbers * scales * np.float32(input_scale)
    order = (3, 0, 1, 2) if layer.operator == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
    return {"weight": array.transpose(order), "bias": numbers}


def write(path, layers: Sequence[Layer], side: int = 32, form: str = "float", input_scale: float = 1 / 128, **options):
    """Write the file. `options`: `zero` of the input, `more` operators after the layers."""
    tensors, operators = [_activation((1, side, side, 3), form, input_scale, options.get("zero", 128))], []
    for layer in layers:
        tensors += [layer.weight, layer.bias, _activation((1, 1, 1, len(layer.bias.array)), form, input_scale, 0)]
        operators.append((layer, [len(tensors) - 4, len(tensors) - 3, len(tensors) - 2], [len(tensors) - 1]))
    for name in options.get("more", ("SOFTMAX",)):
        operators.append((name, [len(tensors) - 1], [len(tensors) - 1]))
    path.write_bytes(_file(tensors, operators))


def _activation(shape, form: str, scale: float, zero: int) -> Numbers:
    if form == "float":
        return Numbers(shape)
    return Numbers(shape, None, UINT8 if form == "uint8" else INT8, [scale], [zero])


def _file(tensors: Sequence[Numbers], operators) -> bytes:
    builder = flatbuffers.Builder(1 << 16)
    names = sorted({getattr(op, "operator", op) for op, _, _ in operators})
    buffers = []
    for data in [b""] + [b"" if one.array is None else one.array.tobytes() for one in tensors]:
        content = builder.CreateByteVector(data) if data else None
        tflite.BufferStart(builder)
        if content is not None:
            tflite.BufferAddData(builder, content)
        buffers.append(tflite.BufferEnd(builder))
    written = [_tensor(builder, one, number + 1) for number, one in enumerate(tensors)]
    calls = [_operator(builder, names, op, inputs, outputs) for op, inputs, outputs in operators]
    codes = []
    for name in names:
        code = getattr(tflite.BuiltinOperator, name)
        tflite.OperatorCodeStart(builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, code)
        tflite.OperatorCodeAddBuiltinCode(builder, code)
        codes.append(tflite.OperatorCodeEnd(builder))
    vectors = {"tensors": written, "operators": calls}
    places = {key: _offsets(builder, value) for key, value in vectors.items()}
    ends = {"inputs": _integers(builder, [0]), "outputs": _integers(builder, [len(tensors) - 1])}
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, places["tensors"])
    tflite.SubGraphAddInputs(builder, ends["inputs"])
    tflite.SubGraphAddOutputs(builder, ends["outputs"])
    tflite.SubGraphAddOperators(builder, places["operators"])
    graphs = _offsets(builder, [tflite.SubGraphEnd(builder)])
    code_vector, buffer_vector = _offsets(builder, codes), _offsets(builder, buffers)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, code_vector)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, buffer_vector)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(builder, one: Numbers, buffer: int) -> int:
    shape = _integers(builder, one.shape)
    quantization = None
    if len(one.scales):
        scales = builder.CreateNumpyVector(np.asarray(one.scales, np.float32))
        zeros = builder.CreateNumpyVector(np.asarray(one.zeros, np.int64))
        tflite.QuantizationParametersStart(builder)
        tflite.QuantizationParametersAddScale(builder, scales)
        tflite.QuantizationParametersAddZeroPoint(builder, zeros)
        tflite.QuantizationParametersAddQuantizedDimension(builder, one.axis)
        quantization = tflite.QuantizationParametersEnd(builder)
    tflite.TensorStart(builder)
    tflite.TensorAddShape(builder, shape)
    tflite.TensorAddType(builder, one.type)
    tflite.TensorAddBuffer(builder, buffer)
    if quantization is not None:
        tflite.TensorAddQuantization(builder, quantization)
    return tflite.TensorEnd(builder)


def _operator(builder, names: Sequence[str], op: Any, inputs: Sequence[int], outputs: Sequence[int]) -> int:
    options = None
    if isinstance(op, Layer):
        kind = "DepthwiseConv2DOptions" if op.operator == "DEPTHWISE_CONV_2D" else "Conv2DOptions"
        getattr(tflite, f"{kind}Start")(builder)
        for field, value in (
            ("Padding", op.padding),
            ("StrideW", op.stride),
            ("StrideH", op.stride),
            ("FusedActivationFunction", op.activation),
            ("DilationWFactor", op.dilation),
            ("DilationHFactor", op.dilation),
        ):
            getattr(tflite, f"{kind}Add{field}")(builder, value)
        options = getattr(tflite, f"{kind}End")(builder)
    given, answers = _integers(builder, inputs), _integers(builder, outputs)
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, names.index(getattr(op, "operator", op)))
    tflite.OperatorAddInputs(builder, given)
    tflite.OperatorAddOutputs(builder, answers)
    if options is not None:
        tflite.OperatorAddBuiltinOptions(builder, options)
    return tflite.OperatorEnd(builder)


def _integers(builder, values: Sequence[int]) -> int:
    return builder.CreateNumpyVector(np.asarray(values, np.int32))


def _offsets(builder, values: Sequence[int]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependUOffsetTRelative(value)
    return builder.EndVector()


def trained_like(net, seed: int = 0):
    """Give a network weights, biases and statistics that differ from channel to channel."""
    draw = np.random.RandomState(seed)
    net.initialize()
    for name, param in net._collect_params_with_prefix().items():
        if name.endswith(("gamma", "running_var")):
            param.set_data(mx.nd.array(draw.uniform(0.5, 1.5, param.shape)))
        elif name.endswith(("beta", "running_mean", "bias")):
            param.set_data(mx.nd.array(draw.normal(0, 0.2, param.shape)))
    return net
