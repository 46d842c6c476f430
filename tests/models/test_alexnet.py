"""AlexNet in two forms: costs, maps, and the contract of the other networks as far as it goes."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model, list_models, model_info
from gluon_effnets._gluoncv import import_gluoncv
from gluon_effnets.complexity import count
from gluon_effnets.models.alexnet import LocalResponseNorm

NAMES = list_models(family="alexnet")


@pytest.fixture(scope="module", params=NAMES)
def net(request):
    mx.random.seed(0)
    net = get_model(request.param, classes=5, dropout=0.0)
    net.initialize()
    return net


def images(n, *size):
    return mx.nd.array(np.random.RandomState(0).standard_normal((n, 3, *size)))


@pytest.mark.parametrize(
    ("name", "options", "params", "conv_fc", "conv"),
    [
        ("alexnet", {}, 61_100_840, 714.19, 655.57),
        ("alexnet_caffe", {}, 60_965_224, 724.41, 665.78),
        ("alexnet_caffe", {"lrn": False}, 60_965_224, 724.41, 665.78),
    ],
)
def test_cost(name, options, params, conv_fc, conv):
    net = get_model(name, **options)
    assert count(net).params == params
    assert [round(count(net, rule=rule).madds / 1e6, 2) for rule in ("conv_fc", "conv")] == [conv_fc, conv]


def test_gluoncvs_name_is_an_alias():
    assert NAMES == ["alexnet_caffe", "alexnet_owt"]
    assert model_info("AlexNet").name == "alexnet_owt"


def test_with_equal_weights_the_logits_are_gluoncvs():
    gluoncv_model = import_gluoncv("model_zoo").get_model
    theirs, ours = gluoncv_model("alexnet", pretrained=False, classes=10), get_model("alexnet", classes=10)
    for net in (theirs, ours):
        net.initialize()
    x = images(2, 224, 224)
    theirs(x)
    params = [list(net.collect_params().values()) for net in (theirs, ours)]
    assert [p.shape for p in params[0]] == [p.shape for p in params[1]]
    for param, value in zip(*params):
        param.set_data(value.data())
    np.testing.assert_allclose(ours(x).asnumpy(), theirs(x).asnumpy(), rtol=1e-4, atol=1e-5)


def test_maps_and_logits_of_all_sizes(net):
    x = images(2, 224, 224)
    net.hybridize(False)
    imperative = net(x).asnumpy()
    net.hybridize()
    logits = net(x).asnumpy()
    np.testing.assert_allclose(logits, imperative, rtol=1e-4, atol=1e-5)
    assert logits.shape == (2, 5) and net.features(x).shape == (2, net.num_features)
    maps = net.extract(x)
    assert [m.shape[2] for m in maps] == [55, 27, 13]
    assert [m.shape[1] for m in maps] == [stage.channels for stage in net.stage_info]
    assert [stage.stride for stage in net.stage_info] == [4, 8, 16]
    for size in ((63, 63), (192, 256), (480, 640)):
        assert net(images(1, *size)).shape == (1, 5)


def test_all_parameters_get_gradients_and_classes_can_be_reset(net):
    net.hybridize()
    x = images(4, 96, 96)
    with autograd.record():
        loss = (net(x) * mx.nd.random.normal(shape=(4, 5))).sum()
    loss.backward()
    assert all(param.grad().abs().sum().asscalar() > 0 for param in net.collect_params().values())
    features = net.features(x).asnumpy()
    net.reset_class(3)
    assert net(x).shape == (4, 3)
    np.testing.assert_array_equal(net.features(x).asnumpy(), features)
    net.reset_class(5)


def test_dropout_and_normalization_are_where_the_options_say():
    def kinds(net):
        found = []
        net.apply(lambda block: found.append(type(block).__name__))
        return [found.count("Dropout"), found.count("LocalResponseNorm")]

    assert kinds(get_model("alexnet")) == [2, 0]
    assert kinds(get_model("alexnet", dropout=0)) == [0, 0]
    assert kinds(get_model("alexnet_caffe")) == [2, 2]
    without = get_model("alexnet_caffe", lrn=False)
    assert kinds(without) == [2, 0]
    # No parameter shows it: the files say it.
    assert without.identity["lrn"] is False and get_model("alexnet_caffe").identity["lrn"] is True


def test_local_response_normalization_is_caffes():
    x = np.random.RandomState(0).uniform(0, 100, (2, 8, 3, 3))
    squares = np.pad(x**2, ((0, 0), (2, 2), (0, 0), (0, 0)))
    windows = sum(squares[:, shift : shift + 8] for shift in range(5))
    expected = x / (1 + 1e-4 / 5 * windows) ** 0.75
    np.testing.assert_allclose(LocalResponseNorm()(mx.nd.array(x)).asnumpy(), expected, rtol=1e-4)
