"""The compiled operator of whole networks: every step beside MXNet's operators, on sizes that fill no vector."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import native
from gluon_effnets.deploy.compiled.graph import NotCompiled, compiled_graph
from gluon_effnets.deploy.graph.inference import StaticGraph, static_block


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """The operators; compiled if a compiler is there, and what this file tests is then never left out."""
    if not native.library().is_file():
        if not any(shutil.which(name) for name in ("g++", "clang++")):
            pytest.skip("no C++ compiler")
        native.build()
    assert native.load()


DATA = mx.sym.var("data")


def graph_of(symbol, image, seed=0):
    """A graph with random arrays."""
    draw = np.random.RandomState(seed)
    shapes, _, auxiliary = symbol.infer_shape(data=(1, *image))
    names = [*zip(symbol.list_arguments(), shapes), *zip(symbol.list_auxiliary_states(), auxiliary)]
    arrays = {}
    for name, shape in names:
        if name != "data":
            fan = np.prod(shape[1:]) if len(shape) > 1 else 1
            values = draw.normal(size=shape) / np.sqrt(fan)
            arrays[name] = mx.nd.array(np.abs(values) + 0.5 if name.endswith(("_var", "_gamma")) else values)
    return StaticGraph(symbol, arrays)


def outputs_of(graph, x):
    block = static_block(graph)
    block.hybridize(static_alloc=True, static_shape=True)
    result = block(mx.nd.array(x))
    return [array.asnumpy() for array in (result if isinstance(result, list) else [result])]


def operators(graph):
    return [node["op"] for node in json.loads(graph.symbol.tojson())["nodes"] if node["op"] != "null"]


def assert_equal(symbol, image, batches=(1, 3), rest=()):
    """The operator alone, with `rest` behind it, gives what MXNet's operators give."""
    graph = graph_of(symbol, image)
    compiled = compiled_graph(graph, image).graph
    assert operators(compiled) == ["effnets_network", *rest]
    for batch in batches:
        x = np.random.RandomState(batch).normal(size=(batch, *image)).astype("float32")
        for found, exact in zip(outputs_of(compiled, x), outputs_of(graph, x)):
            assert found.shape == exact.shape
            np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5 * max(exact.std(), np.abs(exact).max() / 4))


def conv(x, filters, kernel=3, stride=1, pad=None, groups=1, dilate=1, bias=True, name=None):
    pair = lambda value: value if isinstance(value, tuple) else (value, value)  # noqa: E731
    keys = {"num_filter": filters, "num_group": groups, "no_bias": not bias, "name": name}
    pad = tuple(side // 2 for side in pair(kernel)) if pad is None else pair(pad)
    return mx.sym.Convolution(x, kernel=pair(kernel), stride=pair(stride), pad=pad, dilate=pair(dilate), **keys)


def blocks(channels, x=DATA):
    """Some map in blocks, as the input is none."""
    return conv(x, channels, 1, name=f"first{channels}")


@pytest.mark.parametrize("size", [(7, 7), (13, 9), (1, 1), (5, 30)])
@pytest.mark.parametrize("channels", [(3, 8), (19, 40), (16, 70), (37, 100)])
def test_pointwise_convolutions(channels, size):
    assert_equal(conv(blocks(channels[0]), channels[1], 1), (3, *size))


@pytest.mark.parametrize("kernel, pad, dilate", [(3, 1, 1), (5, 0, 1), (3, 2, 2), ((1, 7), (0, 3), 1), (2, 1, 1)])
@pytest.mark.parametrize("stride", [1, 2, 3, (2, 1)])
def test_convolutions_of_any_kernel(stride, kernel, pad, dilate):
    assert_equal(conv(DATA, 20, kernel, stride, pad, dilate=dilate), (3, 15, 12))
    assert_equal(conv(blocks(19), 20, kernel, stride, pad, dilate=dilate, bias=False), (3, 15, 12))


@pytest.mark.parametrize("channels, filters, groups", [(24, 36, 3), (40, 20, 4), (64, 64, 4), (12, 24, 12)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_in_groups(kernel, channels, filters, groups):
    assert_equal(conv(blocks(channels), filters, kernel, groups=groups), (3, 9, 8))


@pytest.mark.parametrize("size", [(7, 7), (14, 13), (4, 33), (1, 1)])
@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2), (9, 1), ((3, 5), 1)])
def test_depthwise_convolutions(kernel, stride, size):
    assert_equal(conv(blocks(21), 21, kernel, stride, groups=21), (3, *size))


@pytest.mark.parametrize("pad, dilate", [(0, 1), (2, 1), (3, 3), ((0, 2), 2)])
def test_depthwise_convolutions_with_other_padding(pad, dilate):
    assert_equal(conv(blocks(21), 21, 3, 1, pad, groups=21, dilate=dilate), (3, 9, 11))


def test_padding_of_unequal_sides():
    padded = mx.sym.Pad(blocks(5), mode="constant", pad_width=(0, 0, 0, 0, 0, 1, 2, 3))
    assert_equal(conv(padded, 7, 3, 2, 0), (3, 8, 9))
    assert_equal(conv(padded, 5, 3, 2, 0, groups=5), (3, 8, 9))


ACTIVATIONS = {
    "relu": lambda x: mx.sym.Activation(x, act_type="relu"),
    "relu6": lambda x: mx.sym.clip(x, 0, 6),
    "sigmoid": lambda x: mx.sym.Activation(x, act_type="sigmoid"),
    "hard_sigmoid": lambda x: mx.sym.hard_sigmoid(x, alpha=1 / 6, beta=0.5),
    "hard_swish": lambda x: x * mx.sym.hard_sigmoid(x, alpha=1 / 6, beta=0.5),
    "swish": lambda x: mx.sym.Activation(x, act_type="sigmoid") * x,
}


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activations_behind_every_kind_of_step(act):
    act = ACTIVATIONS[act]
    y = act(conv(blocks(19), 19, 3, groups=19))
    assert_equal(mx.sym.Group([act(conv(y, 21, 1)), act(y + y), act(mx.sym.slice_axis(y, 1, 3, 18))]), (3, 9, 8))


def test_large_and_small_values_of_activations():
    x = mx.nd.array([-200, -90, -20, -3, -1e-8, 0, 1e-8, 0.5, 3, 20, 90, 200]).reshape((1, 12, 1, 1))
    for act in ACTIVATIONS.values():
        graph = graph_of(act(conv(DATA, 12, 1, groups=12, bias=False, name="one")), (12, 1, 1))
        graph.arrays["one_weight"][:] = 1
        [found], [exact] = (outputs_of(g, x.asnumpy()) for g in (compiled_graph(graph, (12, 1, 1)).graph, graph))
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("act", ["relu", "swish"])
def test_what_is_no_number_stays_visible(act):
    graph = graph_of(ACTIVATIONS[act](conv(blocks(3), 3, 3, groups=3)), (3, 8, 8))
    x = np.zeros((2, 3, 8, 8), np.float32)
    x[1, :, 2, 2] = np.nan
    [found] = outputs_of(compiled_graph(graph, (3, 8, 8)).graph, x)
    assert np.isnan(found[1, :, 1:4, 1:4]).all() and np.isfinite(found[0]).all() and np.isfinite(found[1, :, 5:]).all()


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("convention", ["valid", "full"])
@pytest.mark.parametrize("kernel, stride, pad", [(3, 2, 1), (2, 2, 0), (3, 2, 0), (3, 1, 1)])
def test_pooling(kernel, stride, pad, convention, kind):
    keys = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "pad": (pad,) * 2, "pooling_convention": convention}
    outputs = [mx.sym.Pooling(blocks(21), pool_type=kind, **keys)]
    if kind == "avg":
        outputs.append(mx.sym.Pooling(blocks(21), pool_type=kind, count_include_pad=False, **keys))
    assert_equal(mx.sym.Group(outputs[:1]), (3, 10, 9))
    assert_equal(mx.sym.Group(outputs[-1:]), (3, 10, 9))


@pytest.mark.parametrize("late", [None, "relu"])
@pytest.mark.parametrize("early", [None, "relu6"])
def test_sums(early, late):
    act = lambda name, x: ACTIVATIONS[name](x) if name else x  # noqa: E731
    x = blocks(40)
    y = conv(x, 40, 3, groups=40)
    for other in (x, conv(x, 40, 1), mx.sym.slice_axis(conv(x, 50, 1), axis=1, begin=10, end=50)):
        for order in (1, -1):
            pair = [act(early, conv(y, 40, 1)), other][::order]
            assert_equal(act(late, pair[0] + pair[1]), (3, 6, 7))
    assert_equal(act(late, act(early, y) + x), (3, 6, 7))
    assert_equal(x + x + y, (3, 6, 7))
    assert_equal(conv(mx.sym.add_n(x, y, conv(y, 40, 1), x) + mx.sym.add_n(y), 9, 1), (3, 6, 7))


def test_squeeze_and_excitation():
    x = ACTIVATIONS["swish"](conv(blocks(21), 21, 3, groups=21))
    mean = mx.sym.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1))
    gate = ACTIVATIONS["hard_sigmoid"](conv(ACTIVATIONS["relu"](conv(mean, 6, 1)), 21, 1))
    assert_equal(conv(mx.sym.broadcast_mul(x, gate), 9, 1), (3, 9, 7))
    assert_equal(mx.sym.broadcast_mul(gate, x), (3, 9, 7))


def shuffled(x, groups, channels):
    y = mx.sym.SwapAxis(mx.sym.Reshape(x, shape=(0, groups, channels // groups, -1)), dim1=1, dim2=2)
    return mx.sym.reshape_like(y, x)


def test_parts_joints_and_shuffles_of_channels():
    x = conv(blocks(24), 24, 3)
    left, right = (mx.sym.slice_axis(x, axis=1, begin=begin, end=end) for begin, end in ((0, 10), (10, None)))
    y = shuffled(mx.sym.Concat(right, conv(left, 6, 1), left, dim=1), 6, 30)
    assert_equal(y, (3, 6, 7))
    assert_equal(conv(y, 21, 1), (3, 6, 7))
    assert_equal(conv(y, 30, 3, groups=30), (3, 6, 7))
    assert_equal(conv(shuffled(conv(y, 30, 1, groups=3), 3, 30), 24, 1, groups=3) + x, (3, 6, 7))
    assert_equal(mx.sym.Pooling(y, global_pool=True, pool_type="avg", kernel=(1, 1)), (3, 6, 7))
    parts = mx.sym.SliceChannel(y, num_outputs=3, axis=1)
    assert_equal(conv(parts[2] + parts[0], 7, 3), (3, 6, 7))
    stacked = mx.sym.Reshape(mx.sym.stack(parts[0], parts[1], axis=2), shape=(0, -3, -2))
    assert_equal(conv(stacked, 7, 1), (3, 6, 7))


def test_the_images_themselves_in_parts():
    part = mx.sym.slice_axis(DATA, axis=1, begin=1, end=3)
    assert_equal(conv(part, 5, 3), (3, 8, 8))
    assert_equal(conv(mx.sym.Concat(part, blocks(9), dim=1), 5, 3), (3, 8, 8))
    assert_equal(conv(part, 2, 3, groups=2) + part, (3, 8, 8))
    assert_equal(conv(DATA, 3, 1) + ACTIVATIONS["relu"](DATA), (3, 8, 8))


@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_dense_layers(size):
    y = mx.sym.FullyConnected(mx.sym.Flatten(blocks(21)), num_hidden=10)
    assert_equal(mx.sym.FullyConnected(ACTIVATIONS["relu"](y), num_hidden=33, no_bias=True), (3, *size))


def test_normalization_of_the_input_and_by_itself():
    mean, std = (mx.sym.var(name, shape=(1, 3, 1, 1)) for name in ("mean", "std_gamma"))
    x = mx.sym.broadcast_div(mx.sym.broadcast_sub(DATA, mean), std)
    assert_equal(conv(x, 9, 3), (3, 8, 8))
    assert_equal(conv(x, 3, 3) + x, (3, 8, 8))
    norm = mx.sym.BatchNorm(blocks(21), fix_gamma=False, name="norm")
    assert_equal(conv(ACTIVATIONS["relu"](norm), 9, 3), (3, 8, 8))
    constant = mx.sym.var("constant", shape=(1, 21, 1, 1))
    assert_equal(mx.sym.broadcast_mul(mx.sym.broadcast_add(constant, blocks(21)), constant), (3, 8, 8))


def test_what_it_lacks_stays_with_mxnet_behind_the_last_convolution():
    logits = mx.sym.Flatten(mx.sym.Pooling(blocks(21), global_pool=True, pool_type="avg", kernel=(1, 1)))
    outputs = mx.sym.Group([logits, mx.sym.argmax(logits, axis=1), mx.sym.softmax(conv(blocks(5), 4, 1), axis=1)])
    assert_equal(outputs, (3, 6, 6), rest=("argmax", "softmax"))
    scaled = mx.sym.broadcast_mul(mx.sym.exp(blocks(4)), mx.sym.exp(mx.sym.var("scale", shape=(1, 4, 1, 1))))
    assert_equal(mx.sym.Group([scaled, DATA * DATA]), (3, 6, 6), rest=("exp", "exp", "broadcast_mul"))


@pytest.mark.parametrize(
    "inner",
    [
        lambda x: mx.sym.LRN(x, nsize=3),
        lambda x: mx.sym.Activation(x, act_type="tanh"),
        lambda x: mx.sym.hard_sigmoid(x, alpha=0.2, beta=0.5),
        lambda x: mx.sym.clip(x, -1, 6),
        lambda x: mx.sym.Pooling(x, global_pool=True, pool_type="max", kernel=(1, 1)),
        lambda x: mx.sym.Concat(x, x, dim=2),
        lambda x: mx.sym.SwapAxis(x, dim1=1, dim2=2),
        lambda x: mx.sym.Reshape(x, shape=(0, -1, 2, 4)),
        lambda x: mx.sym.slice_axis(x, axis=2, begin=0, end=4),
        lambda x: mx.sym.broadcast_mul(x, mx.sym.slice_axis(x, axis=1, begin=0, end=1)),
        lambda x: mx.sym.BatchNorm(x, axis=2, fix_gamma=False),
    ],
)
def test_layers_that_it_lacks_before_a_convolution_are_named(inner):
    symbol = conv(inner(blocks(8)), 5, 1)
    with pytest.raises(NotCompiled, match="layers without compiled operators"):
        compiled_graph(graph_of(symbol, (3, 8, 8)), (3, 8, 8))


def test_other_types_are_refused():
    graph = graph_of(conv(DATA, 4, 3), (3, 8, 8))
    half = StaticGraph(graph.symbol, {name: array.astype("float16") for name, array in graph.arrays.items()})
    with pytest.raises(NotCompiled, match="float32 alone"):
        compiled_graph(half, (3, 8, 8))


CHAIN = """
import sys
import mxnet as mx, numpy as np
from gluon_effnets import get_model, native
from gluon_effnets.deploy.compiled.graph import compiled_graph
from gluon_effnets.deploy.graph.inference import network_graph, static_block
assert native.load()
mx.random.seed(0)
net = get_model("idle_mbv3_small", classes=10)
net.initialize(mx.init.Xavier())
block = static_block(compiled_graph(network_graph(net), (3, 40, 33)).graph)
block.hybridize(static_alloc=True, static_shape=True)
x = mx.nd.array(np.random.RandomState(0).normal(size=(5, 3, 40, 33)))
np.save(sys.argv[1], np.concatenate([block(x).asnumpy(), block(x[:1]).asnumpy(), block(x[:4]).asnumpy()]))
"""


def test_any_number_of_threads_gives_the_same_numbers(tmp_path):
    found = []
    for threads in ("1", "2", "3"):
        path = tmp_path / f"{threads}.npy"
        variables = {**os.environ, "OMP_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-W", "ignore", "-c", CHAIN, str(path)], check=True, env=variables)
        found.append(np.load(path))
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()
    assert (found[0][:5][0] == found[0][5]).all() and (found[0][:4] == found[0][6:]).all()


def a_program():
    graph = graph_of(conv(conv(blocks(19), 19, 3, groups=19), 20, 3) + conv(blocks(19), 20, 1), (3, 8, 8))
    operator = compiled_graph(graph, (3, 8, 8)).operator
    *_, node = json.loads(operator.symbol.tojson())["nodes"]
    program = node["attrs"]["program"]
    [weights] = operator.arrays.values()
    return program, weights


@pytest.mark.parametrize(
    "program, message",
    [
        ("", "cut short"),
        ("0 3 0", "cut short"),
        ("0 3 0; 6 3 0 1 0 0 3 9;", "too many numbers"),
        ("0 3 0; 6 3 0 1 0 0", "cut short"),
        ("0 3 0; 6 3 0 1 0 0;", "ends before"),
        ("0 3 0; 0 3 0; 6 3 0 1 0 0 3;", "second input"),
        ("0 3 0; 9 3 0 1 0 0 3;", "the kind of step is 9"),
        ("0 3 0; x 3;", "whole numbers"),
        ("0 3 0; 6 3 0 1 1 0 3;", "a tensor is 1"),
        ("0 3 0; 6 4 0 1 0 0 4;", "channels that are not there"),
        ("0 3 0; 6 3 0 1 0 1 3;", "channels that are not there"),
        ("0 4 0; 6 4 0 1 0 0 4;", "takes 4 channels, not 3"),
        ("0 3 0; 5 16 1 0 0 16; 6 3 0 1 1 0 3;", "channels that are not there"),
        ("0 3 0; 4 3 0 0 1 0 0 1 1 0 0 1; 6 3 0 1 1 0 3;", "planes in blocks"),
        ("0 3 0; 6 3 1 1 0 0 3;", "is a map"),
        ("0 3 0;", "no output"),
        ("0 3 0; 1 16 16 9 9 1 1 1 1 0 0 0 0 0 0 1 1 1 0 0 3 0; 6 3 0 1 1 0 3;", "larger than its map"),
        ("0 3 1073741825; 6 3 0 1 0 0 3;", "the place of weights is"),
        ("0 3 0; 6 3 0 1 0 0 99999999999999999999;", "a number of channels is"),
    ],
)
def test_programs_that_are_none(program, message):
    with pytest.raises(mx.MXNetError, match=message):
        mx.nd.effnets_network(mx.nd.ones((1, 3, 8, 8)), mx.nd.ones(16), program=program).asnumpy()


def test_other_inputs_than_those_of_the_program():
    program, weights = a_program()
    x = mx.nd.ones((1, 3, 8, 8))
    assert mx.nd.effnets_network(x, weights, program=program).shape == (1, 20, 8, 8)
    for inputs, keys, message in (
        ((x, weights[1:]), {}, "weights|[Ss]hape"),
        ((x[0], weights), {}, r"maps \(N, C, H, W\)"),
        ((x.astype("float64"), weights), {}, "float32"),
        ((x, weights), {"layout": "NCHW"}, "no attribute layout"),
    ):
        with pytest.raises(mx.MXNetError, match=message):
            mx.nd.effnets_network(*inputs, program=program, **keys).asnumpy()


def test_changed_programs_are_refused_or_run():
    """None of them ends the process, or reads what is not its own: that is what the checks are for."""
    program, weights = a_program()
    draw, x = random.Random(0), mx.nd.ones((1, 3, 8, 8))
    results = {"ran": 0, "refused": 0}
    for _ in range(150):
        numbers = program.replace(";", " ; ").split()
        for _ in range(draw.choice((1, 2))):
            numbers[draw.randrange(len(numbers))] = draw.choice(("-1", "0", "1", "2", "3", "5", "16", "40", "999", ";"))
        try:
            mx.nd.effnets_network(x, weights, program=" ".join(numbers)).asnumpy()
            results["ran"] += 1
        except mx.MXNetError:
            results["refused"] += 1
    assert min(results.values()) > 5, results
