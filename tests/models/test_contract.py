"""The contract of every network: names, shapes, stages, gradients, and what can be done with them."""

import functools
import json
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from networks import EVERY_KIND, KINDS, initialized

from gluon_effnets import get_model, list_models, model_info

# AlexNets have strides of their own: test_alexnet.py.
NAMES = [name for name in list_models() if model_info(name).family != "alexnet"]
# Last maps of 2 and 3 pixels: strides meet even sizes and odd ones. The networks of test_parity.py compute at 224.
SIZES = (64, 96)
CASES = [
    *(pytest.param(name, {}, id=name) for name in EVERY_KIND if model_info(name).family != "alexnet"),
    pytest.param("condensenet_v2_a", {"condensed": True}, id="condensenet_v2_a-condensed"),
    pytest.param("shufflenet_v1_g3_x0_5", {"shuffle": "paper"}, id="shufflenet_v1_g3_x0_5-paper"),
    pytest.param("shufflenet_v2_x1_0", {"definition": "torchvision"}, id="shufflenet_v2_x1_0-torchvision"),
]


def assert_close(seen, expected, tolerance=1e-5):
    """The largest difference, relative to the largest value."""
    seen, expected = seen.asnumpy(), expected.asnumpy()
    assert np.abs(seen - expected).max() <= tolerance * np.abs(expected).max()


def images(n=1, channels=3, size=64, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal((n, channels, size, size)))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_shapes_stages_and_features_at_all_sizes(name, options):
    net = initialized(name, classes=7, **options)
    net.hybridize()
    is_small = model_info(name).input_size == 32
    for size in (32, 48) if is_small else SIZES:
        x = images(size=size)
        maps = net.extract(x)
        assert [m.shape for m in maps] == [(1, c, size // s, size // s) for c, s in net.stage_info]
        features = net.features(x)
        assert features.shape == (1, net.num_features)
        logits = net(x)
        assert logits.shape == (1, 7) and np.isfinite(logits.asnumpy()).all()
        assert_close(net.output(features), logits)
    assert [stage.stride for stage in net.stage_info] == ([1, 2, 4] if is_small else [2, 4, 8, 16, 32])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_parameters_have_shapes_before_the_first_forward_and_all_get_gradients(name, options):
    # Batch statistics of a single position are degenerate: images large enough for 2 x 2 in the last stage.
    net = initialized(name, classes=5, in_channels=4, dropout=0.0, **options)
    params = net.collect_params()
    assert all(0 not in p.shape for p in params.values())
    net.hybridize()
    with autograd.record():
        loss = (net(images(4, 4)) * mx.nd.array(np.random.RandomState(1).standard_normal((4, 5)))).sum()
    loss.backward()
    without = [name for name, p in params.items() if p.grad_req != "null" and not p.grad().abs().sum().asscalar() > 0]
    assert not without


@pytest.mark.parametrize(("name", "options"), CASES)
def test_hybridized_equals_imperative(name, options):
    net, x = initialized(name, **options), images(2)
    imperative = net(x)
    net.hybridize(static_alloc=True, static_shape=True)
    assert_close(net(x), imperative)


def test_every_kind_is_of_its_family():
    assert all(model_info(name).family == family for family, kinds in KINDS.items() for name in kinds)


@pytest.mark.parametrize("name", NAMES)
def test_two_instances_share_no_names_but_structure(name):
    one, two = get_model(name), get_model(name)
    assert not set(one.collect_params()) & set(two.collect_params())
    assert list(one._collect_params_with_prefix()) == list(two._collect_params_with_prefix())


def operators(net):
    """The operators of a graph with what makes them different computations: all but sizes and numbers."""
    found = set()
    for node in json.loads(net(mx.sym.var("data")).tojson())["nodes"]:
        attrs, op = node.get("attrs", {}), node["op"]
        kept = [attrs.get(key) for key in ("kernel", "stride", "pad", "no_bias", "act_type", "pool_type")]
        if op == "Reshape":
            kept.append(re.sub(r"\b[1-9]\d*", "n", attrs["shape"]))
        if op == "Convolution":
            groups, filters = int(attrs.get("num_group", 1)), int(attrs["num_filter"])
            kept.append("plain" if groups == 1 else "depthwise" if groups == filters else "groups")
            # Whether the groups fill the blocks of 8 channels that oneDNN computes with.
            kept.append(filters // (groups if groups < filters else 1) % 8 == 0)
        found.add((op, *kept))
    return found


@functools.lru_cache(maxsize=None)
def operators_of_every_kind():
    return set().union(*(operators(get_model(name)) for name in EVERY_KIND))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in EVERY_KIND])
def test_no_network_has_an_operator_that_every_kind_lacks(name):
    """What stands for its family in tests that take long; where this fails, networks.KINDS needs one more."""
    assert operators(get_model(name)) <= operators_of_every_kind()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_reset_class_and_small_images(name, options):
    net = initialized(name, classes=10, stem_stride=1, **options)
    net.hybridize()
    x = images(2, size=32)
    features = net.features(x).asnumpy()
    assert net(x).shape == (2, 10)
    net.reset_class(3)
    assert net.num_classes == 3 and net(x).shape == (2, 3)
    np.testing.assert_array_equal(net.features(x).asnumpy(), features)
    assert net.stage_info[0].stride == 1 and net.extract(x)[0].shape[2] == 32


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ds_resnet50"])  # which has group norm
def test_bn_options_reach_every_layer(name):
    net = get_model(name, bn_epsilon=2e-3, bn_momentum=0.7, norm_kwargs={"use_global_stats": True})
    layers = []
    net.apply(lambda block: layers.append(block) if isinstance(block, mx.gluon.nn.BatchNorm) else None)
    expected = {"eps": 2e-3, "momentum": 0.7, "use_global_stats": True}
    assert layers and all(expected.items() <= layer._kwargs.items() for layer in layers)


def test_reset_class_before_initialization_and_bad_counts():
    net = get_model("idle_tiny")
    net.reset_class(4)
    net.initialize()
    assert net(images(size=32)).shape == (1, 4)
    with pytest.raises(ValueError, match="classes=0"):
        net.reset_class(0)
    with pytest.raises(ValueError, match="in_channels=0"):
        get_model("idle_tiny", in_channels=0)


def test_same_padding_is_tensorflows():
    """At stride 2 and even size the extra row and column lie below and right."""
    from gluon_effnets.nn import ConvBN

    for kernel in (3, 5):
        unit = ConvBN(1, 1, kernel, stride=2, padding="same")
        unit.initialize(mx.init.One())
        weight = np.random.RandomState(0).standard_normal((kernel, kernel))
        unit.conv.weight.set_data(mx.nd.array(weight[None, None]))
        x = np.random.RandomState(1).standard_normal((8, 8))
        before, total = (kernel - 2) // 2, kernel - 2
        padded = np.pad(x, ((before, total - before), (before, total - before)))
        expected = [
            [(padded[i : i + kernel, j : j + kernel] * weight).sum() for j in range(0, 8, 2)] for i in range(0, 8, 2)
        ]
        seen = unit.conv(mx.nd.pad(mx.nd.array(x[None, None]), "constant", unit._pad_width, 0)).asnumpy()[0, 0]
        np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
        bn = np.sqrt(1 + 1e-5)
        np.testing.assert_allclose(
            unit(mx.nd.array(x[None, None])).asnumpy()[0, 0] * bn, expected, rtol=1e-4, atol=1e-5
        )


def test_same_padding_changes_the_network():
    one, two = initialized("mobilenet_v3_small"), initialized("mobilenet_v3_small", padding="same")
    x = images()
    assert np.abs((one(x) - two(x)).asnumpy()).max() > 1e-2 * np.abs(one(x).asnumpy()).max()


def test_drop_connect_drops_whole_samples_and_keeps_the_mean():
    from gluon_effnets.nn import MBBlock

    block = MBBlock(4, 8, 4, drop_connect=0.5)
    block.initialize()
    x = images(64, 4, 4)
    branch = block.project(block.depthwise(block.expand(x)))
    with autograd.train_mode():
        dropped = block.drop(branch).asnumpy()
    kept = np.abs(dropped).sum(axis=(1, 2, 3)) > 0  # one decision per sample
    assert 0 < kept.sum() < 64
    np.testing.assert_allclose(dropped, 2 * branch.asnumpy() * kept[:, None, None, None], rtol=1e-5)
    np.testing.assert_array_equal(block(x).asnumpy(), (branch + x).asnumpy())  # evaluation: nothing is dropped


def test_drop_connect_rises_linearly_over_the_blocks():
    net = get_model("efficientnet_b0", drop_connect=0.2)
    rates = []
    net.apply(lambda block: rates.append(block._rate) if isinstance(block, mx.gluon.nn.Dropout) else None)
    residual = [3, 5, 7, 8, 10, 11, 13, 14, 15]
    np.testing.assert_allclose(rates[:-1], [0.2 * (n - 1) / 16 for n in residual])


def test_initializers_follow_the_sources():
    net = initialized("efficientnet_b0", init=None)
    weight = net.stages[3][0].depthwise.conv.weight.data().asnumpy()  # depthwise 3 x 3: fan_out = 9
    assert weight.std() == pytest.approx(np.sqrt(2 / 9), rel=0.05)
    dense = net.output.weight.data().asnumpy()
    assert np.abs(dense).max() <= 1 / np.sqrt(1000) and np.abs(dense).max() > 0.9 / np.sqrt(1000)
    net = initialized("mobilenet_v3_large", init=None)
    weight = net.features[-1][0].conv.weight.data().asnumpy()  # MSRAPrelu: slope 0.25, mean of the fans
    assert weight.std() == pytest.approx(np.sqrt(2 / (1 + 0.25**2) / ((160 + 960) / 2)), rel=0.05)
