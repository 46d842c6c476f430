"""The compiled operators: equal to MXNet's in every part, in training only, and never needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from gluon_effnets import get_model, model_info, native
from gluon_effnets.__main__ import main
from gluon_effnets.models import families, small_model
from gluon_effnets.models.training_graph import CompiledTraining
from gluon_effnets.native import check
from gluon_effnets.native.check import ACTIVATIONS, difference, network_difference
from gluon_effnets.nn.compiled import depthwise_norm_act, norm_act


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """The operators; compiled if a compiler is there, and what this file tests is then never left out."""
    if not native.library().is_file():
        if not any(shutil.which(name) for name in ("g++", "clang++")):
            pytest.skip("no C++ compiler")
        native.build()
    assert native.load()


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(4, 7, 14, 13), (32, 5, 1, 1), (3, 16, 7, 7), (1, 3, 40, 33)])
def test_normalization_and_activation(shape, act):
    assert difference(shape, act) < 2e-5


@pytest.mark.parametrize("act", ["none", "relu6", "swish"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", [(14, 13), (7, 7), (8, 32), (5, 9), (57, 56)])
def test_depthwise_convolution(size, kernel, stride, act):
    assert difference((3, 6, *size), act, kernel, stride) < 2e-5


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(16, 16), (8, 20)])
def test_depthwise_convolution_with_tensorflows_padding(size, kernel):
    assert difference((3, 6, *size), "relu", kernel, 2, pad=((kernel - 2) // 2, kernel // 2)) < 2e-5


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("before, after", [(0, 0), (0, 2), (2, 0), (1, 2), (2, 2)])
def test_depthwise_convolution_with_any_padding_below_its_kernel(before, after, kernel, stride):
    for size in ((9, 10), (6, 5)):
        assert difference((3, 6, *size), "none", kernel, stride, pad=(before, after)) < 2e-5


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_check_of_a_new_library_runs_a_network(act):
    assert network_difference(act) < 2e-6


def test_a_value_where_a_slope_jumps_decides_nothing(monkeypatch):
    drawn = check._inputs

    def with_ties_at_first(shape, kernel, seed):
        x, weight, gamma, beta, *statistics = drawn(shape, kernel, seed)
        if seed == 0:  # the first value of every channel becomes 0 but for rounding
            exact = x.astype(np.float64)
            first = (exact[0, :, 0, 0] - exact.mean((0, 2, 3))) / np.sqrt(
                exact.var((0, 2, 3)) + check.STATISTICS["eps"]
            )
            beta = (-gamma * first).astype(np.float32)
        return [x, weight, gamma, beta, *statistics]

    monkeypatch.setattr(check, "_inputs", with_ties_at_first)
    assert difference((2, 64, 6, 6), "relu") < 2e-5
    monkeypatch.setattr(check, "MARGIN", -1)
    assert difference((2, 64, 6, 6), "relu") > 0.01, "there are no ties in this test"


def test_the_variance_of_numbers_far_from_zero():
    x = 1e4 + np.random.RandomState(0).normal(size=(8, 2, 16, 16)).astype("float32")
    one, zero = mx.nd.ones(2), mx.nd.zeros(2)
    y, statistics = mx.nd.effnets_bn_act(mx.nd.array(x), one, zero, zero.copy(), one.copy(), eps=0)
    exact = x.astype(np.float64)
    deviation = exact.std(axis=(0, 2, 3))
    np.testing.assert_allclose(1 / statistics.asnumpy()[1], deviation, rtol=1e-4)
    assert abs(y.asnumpy().std() - 1) < 1e-3


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_what_is_no_number_stays_visible(act):
    x = mx.nd.random.normal(shape=(2, 3, 4, 4))
    x[1, 1, 2, 2] = np.nan
    three = [mx.nd.ones(3) for _ in range(4)]
    y = mx.nd.effnets_bn_act(x, *three, act=act)[0].asnumpy()
    assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, [0, 2]]).all()
    weight = mx.nd.ones((3, 1, 3, 3))
    y = mx.nd.effnets_depthwise(x, weight, *three, act=act)[0].asnumpy()
    assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, [0, 2]]).all()


def test_what_the_operators_refuse():
    three = [mx.nd.ones(3) for _ in range(4)]
    with pytest.raises(mx.MXNetError, match="act is gelu; known are none, relu"):
        mx.nd.effnets_bn_act(mx.nd.ones((1, 3, 4, 4)), *three, act="gelu")
    with pytest.raises(mx.MXNetError, match=r"maps \(N, C, H, W\)"):
        mx.nd.effnets_bn_act(mx.nd.ones((1, 3)), *three)
    with pytest.raises(mx.MXNetError, match="float32"):
        mx.nd.effnets_bn_act(mx.nd.ones((1, 3, 4, 4), dtype="float64"), *[a.astype("float64") for a in three])
    with pytest.raises(mx.MXNetError, match="smaller than the kernel"):
        mx.nd.effnets_depthwise(mx.nd.ones((1, 3, 1, 1)), mx.nd.ones((3, 1, 5, 5)), *three, kernel=5, pad=1, border=2)
    with pytest.raises(mx.MXNetError, match="kernels of 3, 5 or 7"):
        mx.nd.effnets_depthwise(mx.nd.ones((1, 3, 9, 9)), mx.nd.ones((3, 1, 4, 4)), *three, kernel=4)


def test_a_failure_tells_nothing_of_an_earlier_one():
    """MXNet's library keeps what failed once, and copies all of it at every later call."""
    x, three = mx.nd.ones((1, 3, 4, 4)), [mx.nd.ones(3) for _ in range(4)]
    for act in ("first", "second"):
        with pytest.raises(mx.MXNetError, match=f"act is {act}") as failure:
            mx.nd.effnets_bn_act(x, *three, act=act)
    assert "first" not in str(failure.value)


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"pad": 3}, "pad is 3 of a border of 2"),
        ({"pad": 2, "border": 1}, "pad is 2 of a border of 1"),
        ({"pad": 0, "border": 3}, "pad is 0 of a border of 3"),
        ({"pad": -1}, "pad is -1; a whole number"),
        ({"border": 10**9}, "border is 1000000000; a whole number"),
        ({"pad": (1, 1)}, r"pad is \(1, 1\); a whole number"),
        ({"pad": 1.5}, "pad is 1.5; a whole number"),
        ({"stride": 3}, "strides of 1 or 2"),
        ({"kernel": "3x3"}, "kernel is 3x3; a whole number"),
        ({"dilate": 2}, "dilate is 2; there is no such attribute"),
        ({"layout": "NHWC"}, "layout is NHWC; there is no such attribute"),
        ({"num_group": 2}, "num_group is 2; there is no such attribute"),
        ({"eps": "small"}, "eps is small; a number from 0 on"),
        ({"eps": -1.0}, "eps is -1.0; a number from 0 on"),
        ({"momentum": 1.5}, "momentum is 1.5; a number from 0 to 1"),
        ({"momentum": "nan"}, "momentum is nan; a number from 0 to 1"),
    ],
    ids=str,
)
def test_every_attribute_is_checked(attributes, message):
    four = [mx.nd.ones(4) for _ in range(4)]
    x, weight = mx.nd.ones((2, 4, 8, 8)), mx.nd.ones((4, 1, 3, 3))
    with pytest.raises(mx.MXNetError, match=message):
        mx.nd.effnets_depthwise(x, weight, *four, **{"kernel": 3, "stride": 1, "pad": 1, "border": 2, **attributes})
    if not {"eps", "momentum"} & set(attributes):
        attributes = {"border": 2}
    with pytest.raises(mx.MXNetError):
        mx.nd.effnets_bn_act(x, *four, **attributes)
    with pytest.raises(mx.MXNetError, match="no such attribute"):
        mx.nd.effnets_scale(x, mx.nd.ones((2, 4, 1, 1)), **attributes)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"kernel_size": (3, 5), "padding": (1, 2)},
        {"strides": (1, 2)},
        {"strides": 3},
        {"dilation": 2, "padding": 2},
        {"kernel_size": 9, "padding": 4},
        {"padding": 3},
        {"channels": 16},
        {"groups": 4},
        {"use_bias": True},
        {"activation": "tanh"},
    ],
    ids=str,
)
def test_what_the_operators_cannot_compute_is_left_to_mxnet(change):
    options = {"channels": 8, "kernel_size": 3, "strides": 1, "padding": 1, "groups": 8, "use_bias": False, **change}

    class Unit(CompiledTraining):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2D(in_channels=8, **options), nn.BatchNorm(in_channels=options["channels"])

        def hybrid_forward(self, F, x):
            pad = self.conv._kwargs["pad"][0]
            together = depthwise_norm_act(F, self.conv, self.bn, None, x, pad, pad)
            return norm_act(F, self.bn, None, self.conv(x)) if together is None else together[0]

    unit = Unit()
    unit.initialize()
    x = mx.nd.random.uniform(shape=(2, 8, 12, 12))
    with autograd.record():
        expected = unit(x)
    unit.hybridize()
    with autograd.record():
        found = unit(x)
    np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), atol=1e-5)
    assert ("effnets_depthwise" in operators(unit)) == (not change)


def twins(name, images, grad_req="write", frozen=(), **options):
    """The network with MXNet's operators, and the same with compiled ones, after one step each."""
    nets, values = [], []
    for compiled in (False, True):
        net = get_model(name, classes=10, **options)
        net.trains_compiled = compiled
        net.apply(_never_drop)  # which numbers are drawn depends on the operators of a graph
        net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
        params = list(net.collect_params().values())
        for param, value in zip(params, values):
            param.set_data(value)
        values = [param.data().copy() for param in params]
        for param in params:
            if param.grad_req != "null":
                param.grad_req = "null" if frozen and param.name.endswith(tuple(frozen)) else grad_req
        net.hybridize(static_alloc=True, static_shape=True)
        nets.append(net)
    for net in nets:
        step(net, images)
    return nets


def _never_drop(block):
    if isinstance(block, nn.Dropout):
        block._rate = 0


def step(net, images):
    with autograd.record():
        loss = (net(images) ** 2).mean()
    loss.backward()
    return loss


def compare(stock, compiled):
    """Differences of all gradients, and of all running statistics, as shares of their length."""
    pairs = {"gradient": [], "statistics": []}
    for a, b in zip(stock.collect_params().values(), compiled.collect_params().values()):
        if "running" in a.name:
            pairs["statistics"].append((a.data(), b.data()))
        elif a.grad_req != "null":
            pairs["gradient"].append((a.grad(), b.grad()))
    joined = {k: [np.concatenate([x.asnumpy().ravel() for x in side]) for side in zip(*v)] for k, v in pairs.items()}
    return {kind: np.linalg.norm(a - b) / np.linalg.norm(a) for kind, (a, b) in joined.items()}


def operators(net):
    """Names of the operators of the graph that trains the network."""
    graph = net._for_training[0] or net._cached_graph
    return {node["op"] for node in json.loads(graph[1].tojson())["nodes"]}


IMAGES = {"shape": (8, 3, 64, 64)}
# How far gradients may be apart. Where ReLUs are many, a value that rounding takes from one side of a kink to the other
# changes more: weights that differ by 1e-7 of themselves give gradients 0.03 apart.
TOLERANCES = {"idle_tiny": 1e-4, "efficientnet_b0": 1e-3}
PADDED = {"efficientnet_b0", "mobilenet_v3_small"}
# Beside one network of every family: others that have more to compile.
MORE = ["idle_mbv3_small", "cifar_condensenet_50"]


def normalizes(name):
    layers = []
    get_model(name).apply(lambda block: layers.append(block) if isinstance(block, nn.BatchNorm) else None)
    return bool(layers)


@pytest.mark.parametrize("name", [*map(small_model, families()), *MORE])
def test_a_step_of_a_network_is_the_same(name):
    if not normalizes(name):
        assert model_info(name).family == "alexnet", "nothing to compile in other families?"
        return
    tolerance = TOLERANCES.get(name, 0.1)
    options = {"padding": "same"} if name in PADDED else {}
    mx.random.seed(0)
    images = mx.nd.random.uniform(**IMAGES)
    stock, compiled = twins(name, images, **options)
    assert "effnets_bn_act" in operators(compiled)
    assert not any(op.startswith("effnets") for op in operators(stock))
    found = compare(stock, compiled)
    assert found["gradient"] < tolerance and found["statistics"] < 1e-4, found
    np.testing.assert_allclose(step(stock, images).asscalar(), step(compiled, images).asscalar(), rtol=1e-3)


def test_gradients_add_up():
    mx.random.seed(0)
    images = mx.nd.random.uniform(**IMAGES)
    net = twins("idle_tiny", images, grad_req="add")[1]
    params = [param for param in net.collect_params().values() if param.grad_req != "null"]
    once = [param.grad().asnumpy() for param in params]
    step(net, images)
    for param, first in zip(params, once):
        twice = param.grad().asnumpy()
        assert np.linalg.norm(twice - 2 * first) <= 1e-3 * np.linalg.norm(twice) + 1e-7, param.name


def test_with_frozen_parameters_the_others_get_the_same_gradients():
    mx.random.seed(0)
    images = mx.nd.random.uniform(**IMAGES)
    stock, compiled = twins("efficientnet_b0", images, frozen=("gamma", "beta", "conv0_weight"))
    assert compare(stock, compiled)["gradient"] < 1e-3


def _backbone(net):
    return net.features.collect_params()


def _forward_alone(net, images):
    with autograd.record():
        net(images)


def _frozen_scales(net, images):
    net.collect_params(".*(gamma|beta)").setattr("grad_req", "null")
    step(net, images)


def _frozen_backbone(net, images):
    _backbone(net).setattr("grad_req", "null")
    step(net, images)


def _frozen_start(net, images):
    net.features[:2].collect_params().setattr("grad_req", "null")
    step(net, images)


def _frozen_backbone_of_images_with_gradients(net, images):
    images = images.copy()
    images.attach_grad()
    _frozen_backbone(net, images)


def _everything_frozen(net, images):
    net.collect_params().setattr("grad_req", "null")
    with autograd.record():
        net(images)


def _frozen_and_thawed(net, images):
    _frozen_backbone(net, images)
    for param in _backbone(net).values():
        param.grad_req = "null" if "running" in param.name else "write"
    step(net, images)


def _fixed_statistics(net, images):
    net.features[:2].apply(
        lambda block: isinstance(block, nn.BatchNorm) and block._kwargs.update(use_global_stats=True)
    )
    net.hybridize(**dict(net._flags))  # anew
    step(net, images)


def _two_forwards_for_one_backward(net, images):
    with autograd.record():
        loss = net(images).sum() + (net(images[:2] * 2) ** 2).sum()
    loss.backward()


def _first_of_two_forwards(net, images):
    with autograd.record():
        loss = (net(images) ** 2).sum()
        net(images[:2] * 2)
    loss.backward()


def _two_backwards_for_one_forward(net, images):
    with autograd.record():
        loss = (net(images) ** 2).sum()
    loss.backward(retain_graph=True)
    loss.backward()


def _gradients_that_add_up(net, images):
    for param in net.collect_params().values():
        param.grad_req = "null" if param.grad_req == "null" else "add"
    step(net, images)
    step(net, images[:2])


def _recorded_as_in_evaluation(net, images):
    with autograd.record(train_mode=False):
        loss = (net(images) ** 2).sum()
    loss.backward(train_mode=False)


def _training_mode_without_a_record(net, images):
    with autograd.train_mode():
        net(images)


def _evaluation_between_forward_and_backward(net, images):
    with autograd.record():
        loss = (net(images) ** 2).sum()
        with autograd.pause():
            net(images[:2])
    loss.backward()


SCENARIOS = {
    _forward_alone: False,
    _frozen_scales: True,
    _frozen_backbone: False,
    _frozen_start: True,
    _frozen_backbone_of_images_with_gradients: True,
    _everything_frozen: False,
    _frozen_and_thawed: True,
    _fixed_statistics: True,
    _two_forwards_for_one_backward: True,
    _first_of_two_forwards: True,
    _two_backwards_for_one_forward: True,
    _gradients_that_add_up: True,
    _recorded_as_in_evaluation: False,
    _training_mode_without_a_record: False,
    _evaluation_between_forward_and_backward: True,
}


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__.strip("_"))
def test_statistics_move_as_with_mxnets_operators(scenario, static):
    mx.random.seed(0)
    images = mx.nd.random.uniform(shape=(4, 3, 32, 32))
    moved = []
    for net in twins("idle_tiny", images):
        net.hybridize(static_alloc=static, static_shape=static)
        mx.nd.waitall()
        statistics = [param for param in net.collect_params().values() if "running" in param.name]
        before = [param.data().asnumpy() for param in statistics]
        scenario(net, images)
        if static:  # MXNet's engine does not know that a static graph changes them
            mx.nd.waitall()
        moved.append([param.data().asnumpy() - old for param, old in zip(statistics, before)])
    stock, compiled = moved
    assert any(values.any() for values in stock) == SCENARIOS[scenario]
    for theirs, ours in zip(stock, compiled):
        assert theirs.any() == ours.any()
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(np.abs(theirs).max(), 1e-3))


def test_layers_that_do_not_normalize_by_the_batch_stay_as_they_are():
    net = get_model("mobilenet_v3_small", classes=10)
    frozen = net.features[1]
    frozen.apply(lambda block: isinstance(block, nn.BatchNorm) and block._kwargs.update(use_global_stats=True))
    net.initialize()
    net.hybridize()
    step(net, mx.nd.random.uniform(**IMAGES))
    assert {"BatchNorm", "effnets_bn_act"} <= operators(net)
    unmoved = [p.data().asnumpy() for p in frozen.collect_params(".*running_mean").values()]
    assert unmoved and not any(values.any() for values in unmoved)


def test_evaluation_and_export_have_no_compiled_operators(tmp_path):
    mx.random.seed(0)
    images = mx.nd.random.uniform(**IMAGES)
    net = twins("idle_tiny", images)[1]
    net.export(str(tmp_path / "net"))  # of a network that never evaluated anything
    assert "effnets" not in (tmp_path / "net-symbol.json").read_text()
    loaded = mx.gluon.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    )
    expected = net(images).asnumpy()
    np.testing.assert_allclose(loaded(images).asnumpy(), expected, atol=1e-5)
    net.hybridize(False)
    np.testing.assert_allclose(net(images).asnumpy(), expected, atol=1e-5)


def test_evaluation_between_two_steps_changes_nothing():
    mx.random.seed(0)
    images = mx.nd.random.uniform(**IMAGES)
    first, second = twins("idle_tiny", images)[1], twins("idle_tiny", images)[1]
    for mine, theirs in zip(second.collect_params().values(), first.collect_params().values()):
        mine.set_data(theirs.data())
    first(images).wait_to_read()
    assert step(first, images).asscalar() == step(second, images).asscalar()
    mx.nd.waitall()  # static graphs change statistics behind the engine's back
    for a, b in zip(first.collect_params().values(), second.collect_params().values()):
        np.testing.assert_array_equal(a.data().asnumpy(), b.data().asnumpy())


def test_running_statistics_are_read_after_the_backward_pass_that_changes_them():
    net = get_model("mobilenet_v3_small", classes=10)
    net.initialize()
    net.hybridize()
    statistics = [param for param in net.collect_params().values() if "running_mean" in param.name]
    for _ in range(3):
        step(net, mx.nd.random.uniform(shape=(8, 3, 96, 96)))
        at_once = [param.data().copy() for param in statistics]
        mx.nd.waitall()
        for param, copied in zip(statistics, at_once):
            np.testing.assert_array_equal(copied.asnumpy(), param.data().asnumpy())


def test_batches_of_other_sizes_and_new_classes():
    net = get_model("idle_tiny", classes=10)
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    for shape in ((4, 3, 64, 64), (2, 3, 64, 64), (4, 3, 96, 64)):
        step(net, mx.nd.random.uniform(shape=shape))
    net.reset_class(7)
    with autograd.record():
        assert net(mx.nd.random.uniform(shape=(2, 3, 64, 64))).shape == (2, 7)
    assert "effnets_bn_act" in operators(net)


def test_a_build_that_cannot_be_is_one_clear_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(native, "library", lambda: tmp_path / "there" / "kernels-0.so")
    assert main(["native", "--compiler", "no-such-compiler"]) == 1
    assert "no C++ compiler: no-such-compiler" in capsys.readouterr().err
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho kernels.cc:1: error: broken\nexit 3\n")
    failing.chmod(0o755)
    assert main(["native", "--compiler", str(failing)]) == 1
    error = capsys.readouterr().err
    assert "could not compile" in error and "error: broken" in error
    wrong = tmp_path / "wrong"
    wrong.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho nothing > "$2"\n')
    wrong.chmod(0o755)
    assert main(["native", "--compiler", str(wrong)]) == 1
    assert "do not work here" in capsys.readouterr().err
    assert not list((tmp_path / "there").iterdir())


def test_the_command_says_what_is_there(capsys, monkeypatch):
    assert main(["native"]) == 0
    assert str(native.library()) in capsys.readouterr().out
    monkeypatch.setenv(native.SWITCH, "0")
    assert main(["native"]) == 0
    assert "keeps them from being used" in capsys.readouterr().out


def test_a_broken_library_is_a_warning(monkeypatch, tmp_path):
    broken = tmp_path / "kernels-0.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(native, "library", lambda: broken)
    with pytest.warns(UserWarning, match="MXNet's own operators are used.*native --force"):
        assert not native.load.__wrapped__()


def test_switched_off_by_the_environment(monkeypatch):
    code = (
        "import mxnet as mx; from mxnet import autograd; from gluon_effnets import get_model, native\n"
        "net = get_model('idle_tiny'); net.initialize(); net.hybridize()\n"
        "with autograd.record(): net(mx.nd.ones((1, 3, 32, 32))).backward()\n"
        "assert not native.load() and not net._for_training[0]"
    )
    monkeypatch.setenv(native.SWITCH, "0")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_run_says_with_whose_operators_it_goes_on(start, monkeypatch, capsys):
    start("checkpoint_every=2it").train_until_killed(2)
    again = start("checkpoint_every=2it").resume()
    assert again.state.precision.operators == "compiled" and "operators" not in capsys.readouterr().out
    monkeypatch.setattr(native, "load", lambda: False)
    start("checkpoint_every=2it").resume().train()
    assert "changed since that checkpoint: operators compiled -> MXNet's" in capsys.readouterr().out
