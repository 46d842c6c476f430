"""DS-Net: what its widths cost, that widths are views of one network, and what its gates choose."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import detrand
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets.complexity import count, layer_costs
from gluon_effnets.deploy import export, load_exported
from gluon_effnets.models.dsnet import RESNET50, SlimmableResNet, Stage
from gluon_effnets.models.slimmable import Slot
from gluon_effnets.nn import ChannelGroupNorm, SlimmingHead, gumbel_noise
from gluon_effnets.nn.gate import straight_through
from gluon_effnets.weights import load_official
from gluon_effnets.weights.dsnet import DS_NET

PUBLISHED = json.loads((Path(__file__).parents[2] / "results" / "published.json").read_text())["rows"]
PARITY = os.environ.get("GLUON_EFFNETS_PARITY")
needs_references = pytest.mark.skipif(not PARITY, reason="GLUON_EFFNETS_PARITY is not set")

# Widths of the last two stages, MAdds with average pools and without, parameters in use.
SUBNETS = [
    (224, 736, 132_890_144, 132_004_224, 2_660_364),
    (256, 768, 152_917_184, 151_995_200, 2_935_180),
    (288, 800, 175_151_968, 174_193_920, 3_224_332),
    (320, 832, 199_594_496, 198_600_384, 3_527_820),
    (352, 864, 226_244_768, 225_214_592, 3_845_644),
    (384, 896, 255_102_784, 254_036_544, 4_177_804),
    (416, 928, 286_168_544, 285_066_240, 4_524_300),
    (448, 960, 319_442_048, 318_303_680, 4_885_132),
    (480, 992, 354_923_296, 353_748_864, 5_260_300),
    (512, 1024, 392_612_288, 391_401_792, 5_649_804),
    (544, 1056, 432_509_024, 431_262_464, 6_053_644),
    (576, 1088, 474_613_504, 473_330_880, 6_471_820),
    (608, 1120, 518_925_728, 517_607_040, 6_904_332),
    (640, 1152, 565_445_696, 564_090_944, 7_351_180),
]
TINY = "ds_mobilenet_tiny"
RESNET_TINY, AT_32_PIXELS = "ds_resnet_tiny", {"stem_stride": 1, "stem_pool": False}


def official_madds(net):
    """The authors' count: convolutions, fully connected layers and what average pools read."""
    pools = sum(cost.madds for cost in layer_costs(net, 224, "conv_fc_relu_pool") if cost.op == "Pooling")
    return count(net).madds + pools


def num_active(net):
    return sum(math.prod(shape) for shape in net.active_shapes().values())


def trained(name=TINY, seed=0, **options):
    """A network whose values differ everywhere, statistics and gammas too, as after training."""
    net = get_model(name, **{"classes": 5, **options})
    net.initialize()
    random = np.random.RandomState(seed)
    for key, param in net._collect_params_with_prefix().items():
        shape = param.shape
        if key.endswith(("gamma", "running_var")):
            value = random.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = random.normal(0, 0.1, shape)
        else:
            value = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        param.set_data(mx.nd.array(value))
    return net


def images(n=4, size=32, seed=1):
    return mx.nd.array(np.random.RandomState(seed).standard_normal((n, 3, size, size)))


def values(net):
    return {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}


def assert_close(seen, expected, tolerance=1e-5):
    seen, expected = (array.asnumpy() if hasattr(array, "asnumpy") else array for array in (seen, expected))
    np.testing.assert_allclose(seen, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# Costs


@pytest.fixture(scope="module")
def supernet():
    return get_model("ds_mobilenet_v1")


@pytest.mark.fast
@pytest.mark.parametrize("index", range(14))
def test_cost_of_every_subnet(supernet, index):
    stage_3, stage_4, official, conv_fc, active = SUBNETS[index]
    net = supernet.subnet(index)
    assert net.widths == supernet.widths[index] == (16, (32, 48, 96, stage_3, stage_4))
    assert (official_madds(net), count(net).madds, num_active(net)) == (official, conv_fc, active)


@pytest.mark.fast
def test_cost_of_the_supernet(supernet):
    assert (official_madds(supernet), count(supernet).madds) == (819_883_136, 817_617_376)
    sizes = {key: math.prod(param.shape) for key, param in supernet._collect_params_with_prefix().items()}
    statistics = sum(size for key, size in sizes.items() if "running_" in key)
    # The authors' buffers have a counter of batches for each of 234 lists' entries, too.
    assert (sum(sizes.values()) - statistics, statistics) == (7_676_204, 229_930 - 234)
    # 264 of them decide the route.
    assert sum(math.prod(p.shape) for p in supernet.gates.collect_params().values()) == 264
    assert count(supernet).params == 7_676_204 - 264


@pytest.mark.fast
def test_published_costs_are_those_counted(supernet):
    """To the printed digit but for US-MobileNet at 1, where 568.74 is printed as 568, and at 0.5, 149.50 as 149."""
    nets = {"ds_mobilenet_v1": (supernet, official_madds)}
    for name in ("slimmable_mobilenet_v1", "slimmable_resnet50"):
        nets[name] = (get_model(name), lambda net: count(net).madds)
    rows = [row for row in PUBLISHED if row["model"] in nets and row["what"].startswith("MAdds of subnet(")]
    assert len(rows) == 14 + 4 + 4
    for row in rows:
        net, madds = nets[row["model"]]
        number, unit = row["value"].split()
        seen = madds(net.subnet(int(row["what"][len("MAdds of subnet(") : -1]))) / {"M": 1e6, "G": 1e9}[unit]
        places = len(number.partition(".")[2])
        truncated = math.floor(seen * 10**places) / 10**places
        assert float(number) in (round(seen, places), truncated), row


@pytest.mark.fast
def test_cost_of_the_baselines():
    resnet = get_model("slimmable_resnet50")
    assert [round(count(resnet.subnet(i)).madds / 1e6) for i in range(4)] == [278, 1052, 2323, 4089]
    assert count(resnet).madds == count(resnet.subnet(3)).madds
    mobilenet = get_model("slimmable_mobilenet_v1")
    for index, width in enumerate(("0_25", "0_5", "0_75", "1_0")):
        plain = get_model(f"mobilenet_v1_x{width}")
        view = mobilenet.subnet(index)
        assert (count(view).madds, num_active(view)) == (count(plain).madds, count(plain).params)


@pytest.mark.fast
def test_cost_of_resnets_whose_stem_stays():
    stages = [Stage(tuple(out * k // 4 for k in (1, 2, 3, 4)), out, units, stride) for out, units, stride in RESNET50]
    net = SlimmableResNet(Slot((64,), 64), stages)
    assert [round(count(net.subnet(i)).madds / 1e6) for i in range(4)] == [379, 1127, 2364, 4089]


# Views


@pytest.mark.parametrize("index", range(4))
def test_a_width_is_the_network_of_that_width(index):
    """The same logits as a MobileNetV1 that has the sliced values as its own."""
    net = trained("slimmable_mobilenet_v1")
    plain = get_model(f"mobilenet_v1_x{('0_25', '0_5', '0_75', '1_0')[index]}", classes=5)
    plain.initialize()
    own, whole = plain._collect_params_with_prefix(), net._collect_params_with_prefix()
    keys = [key for key in whole if not key.startswith(("statistics.", "gates."))]
    for key, (name, param) in zip(keys, own.items()):
        layer, _, tensor = key.rpartition(".")
        assert tensor == name.rpartition(".")[2]
        other = f"statistics.{layer}.{param.shape[0]}.{tensor}"
        value = whole[other if tensor.startswith("running") and other in whole else key].data()
        param.set_data(value[tuple(slice(size) for size in param.shape)])
    assert len(keys) == len(own)
    assert_close(net.subnet(index)(images()), plain(images()))


@pytest.mark.parametrize(("name", "options"), [(TINY, {}), ("slimmable_mobilenet_v1", {}), (RESNET_TINY, AT_32_PIXELS)])
def test_hybridized_equals_imperative_at_every_width(name, options):
    net, x = trained(name, **options), images()
    views = [net.subnet(which) for which in (*range(net.num_widths), "largest")]
    expected = [view(x).asnumpy() for view in views]
    outputs = {} if net.gating is None else {"choice": net.route(x), "logits": net.dynamic(x).logits}
    net.hybridize(static_alloc=True, static_shape=True)
    for view, logits in zip(views, expected):
        assert_close(view(x), logits)
    if net.gating is not None:
        dynamic = net.dynamic(x)
        assert_close(dynamic.logits, outputs["logits"])
        np.testing.assert_array_equal(net.route(x).asnumpy(), outputs["choice"].asnumpy())
    assert len({tuple(logits.ravel()) for logits in expected}) >= net.num_widths


def test_switching_widths_keeps_the_graphs():
    net, x = trained(), images()
    net.hybridize()
    views = [net.subnet(which) for which in (0, 3, "largest")]
    before = []
    for _ in range(3):
        for view in views:
            view(x)
        net.dynamic(x)
        graphs = [view._cached_op for view in (*views, net._views.dynamic())]
        assert before in ([], graphs) and None not in graphs
        before = graphs
    # A width that is asked for later is hybridized as the network is.
    net = trained()
    net.hybridize()
    net.dynamic(x)
    assert net._views.dynamic()._cached_op is not None


def test_subnets_are_the_same_objects_every_time():
    net = get_model(TINY)
    assert net.subnet(2) is net.subnet(2) is net.subnet((2,)) and net.subnet("largest") is net
    assert net.subnet("smallest") is net.subnet(0) and net.subnet(np.int64(1)) is net.subnet(1)
    resnet = get_model("ds_resnet50")
    assert resnet.subnet(2) is resnet.subnet((2, 2, 2, 2)) is not resnet.subnet((2, 2, 2, 3))
    assert resnet.subnet((0, 3, 1, 2)).widths == (64, (64, 512, 512, 1536))


@pytest.mark.fast
@pytest.mark.parametrize("which", [6, -1, 1.5, None, "widest", (0, 0), ()])
def test_widths_that_do_not_exist(which):
    with pytest.raises(ValueError, match="choose 0 to 5, 'smallest' or 'largest'"):
        get_model(TINY).subnet(which)


@pytest.mark.fast
def test_paths_that_do_not_exist():
    with pytest.raises(ValueError, match="choose 0 to 3, or 4 such numbers, 'smallest' or 'largest'"):
        get_model("ds_resnet50").subnet((0, 1))


def test_gradients_and_statistics_stay_within_the_width():
    net, x = trained(dropout=0.0), images(8)
    before = values(net)
    view = net.subnet(1)
    used = view.active_shapes()
    with autograd.record():
        loss = view(x).square().sum()
    loss.backward()
    for param in net.collect_params().values():
        if param.grad_req == "null":
            continue
        gradient = param.grad().asnumpy().copy()
        inside = tuple(slice(size) for size in used[param.name])
        assert np.abs(gradient[inside]).sum() > 0, param.name
        gradient[inside] = 0
        assert not gradient.any(), param.name
    changed = {key for key, value in values(net).items() if not np.array_equal(value, before[key])}
    statistics = {name for name in view.collect_params() if "running" in name}
    assert changed == {k for k, p in net._collect_params_with_prefix().items() if p.name in statistics}
    # That of the stem, which all sub-networks share, and that of a chosen stage at its own width.
    assert "statistics.features.0.0.bn.8.running_mean" in changed
    assert {key for key in changed if ".features.3.0.pointwise" in key} == {
        f"statistics.features.3.0.pointwise.bn.32.running_{kind}" for kind in ("mean", "var")
    }


@pytest.mark.parametrize("hybridized", [False, True])
def test_views_follow_the_network(hybridized, tmp_path):
    net, x = trained(), images()
    if hybridized:
        net.hybridize()
    view = net.subnet(2)
    first, dynamic, route = view(x).asnumpy(), net.dynamic(x).logits.asnumpy(), net.route(x).asnumpy()
    net.save_parameters(str(tmp_path / "w.params"))
    net.output.bias.set_data(net.output.bias.data() + 1)
    assert_close(view(x), first + 1)
    net.load_parameters(str(tmp_path / "w.params"))
    assert_close(view(x), first)
    again = get_model(TINY, pretrained=str(tmp_path / "w.params"))
    assert_close(again.subnet(2)(x), first)
    assert_close(again.dynamic(x).logits, dynamic)
    net.cast("float64")
    assert view(x.astype("float64")).dtype == np.float64
    assert_close(view(x.astype("float64")), first)
    assert_close(net.dynamic(x.astype("float64")).logits, dynamic)
    net.cast("float32")
    net.reset_class(3)
    assert view(x).shape == net.dynamic(x).logits.shape == net(x).shape == (4, 3)
    assert view.num_classes == 3
    np.testing.assert_array_equal(net.route(x).asnumpy(), route)
    net.output.weight.set_data(mx.nd.zeros_like(net.output.weight.data()))
    net.output.bias.set_data(mx.nd.array([1, 2, 3]))
    np.testing.assert_array_equal(view(x).asnumpy(), [[1, 2, 3]] * 4)
    np.testing.assert_array_equal(net.dynamic(x).logits.asnumpy(), [[1, 2, 3]] * 4)


def test_a_file_of_other_widths_is_refused(tmp_path):
    get_model_file = str(tmp_path / "w.params")
    net = trained("slimmable_mobilenet_v1", ratios=(0.5, 1.0))
    net.save_parameters(get_model_file)
    assert get_model("slimmable_mobilenet_v1", pretrained=get_model_file).num_widths == 2
    with pytest.raises(ValueError, match="ratios"):
        get_model("slimmable_mobilenet_v1", classes=5).load_parameters(get_model_file)


def test_two_networks_share_nothing():
    one, two = trained(seed=0), trained(seed=1)
    x = images()
    before = two.subnet(1)(x).asnumpy()
    for param in one.collect_params().values():
        param.set_data(mx.nd.zeros_like(param.data()))
    np.testing.assert_array_equal(two.subnet(1)(x).asnumpy(), before)
    assert not {p.name for p in one.subnet(1).collect_params().values()} & set(two.collect_params())


def test_views_have_the_contract_of_networks():
    net = trained()
    view, x = net.subnet(0), images()
    maps = view.extract(x)
    assert [m.shape[1:] for m in maps] == [
        (info.channels, 32 // info.stride, 32 // info.stride) for info in view.stage_info
    ]
    assert view.features(x).shape == (4, view.num_features) == (4, 40)
    assert view.info.name == TINY and view.preprocessing == net.preprocessing and view.in_channels == 3
    for act in (lambda: view.reset_class(3), lambda: view.save_parameters("w"), lambda: view.load_parameters("w")):
        with pytest.raises(ValueError, match="of its whole network"):
            act()


def test_options_reach_the_views():
    net = get_model(TINY, bn_epsilon=2e-3, bn_momentum=0.7, padding="same", norm_kwargs={"use_global_stats": True})
    found = []
    net.subnet(0).apply(lambda b: found.append(b) if isinstance(b, mx.gluon.nn.BatchNorm) else None)
    expected = {"eps": 2e-3, "momentum": 0.7, "use_global_stats": True}
    assert len(found) == 13 and all(expected.items() <= layer._kwargs.items() for layer in found)
    same, other = trained(padding="same"), trained()
    x = images()
    assert np.abs((same.subnet(0)(x) - other.subnet(0)(x)).asnumpy()).max() > 1e-3
    assert_close(same.dynamic(x).logits, routed_alone(same, x))


def test_dropout_is_for_the_largest_alone():
    net, x = trained(dropout=0.5, norm_kwargs={"use_global_stats": True}), images()
    with autograd.train_mode():
        assert np.abs((net(x) - net(x)).asnumpy()).max() > 0
        np.testing.assert_array_equal(net.subnet(0)(x).asnumpy(), net.subnet(0)(x).asnumpy())


def test_a_width_exports_with_its_own_statistics(tmp_path):
    net, x = trained(), images()
    files = export(net.subnet(3), tmp_path / "m", image_size=32)
    assert_close(load_exported(files.symbol, files.params)(x), net.subnet(3)(x))


def test_initialization_is_that_of_the_authors(supernet):
    net = get_model("ds_mobilenet_v1")
    mx.random.seed(0)
    net.initialize()
    for weight, std in (
        (net.stages[4][1].depthwise.conv.weight, math.sqrt(2 / 9)),
        (net.stages[4][1].pointwise.conv.weight, math.sqrt(2 / 1152)),
        (net.stages[3][0].se.reduce.weight, math.sqrt(2 / 66)),
        (net.gates[0].gate.weight, math.sqrt(2 / 4)),
        (net.output.weight, 1 / math.sqrt(1000) / math.sqrt(3)),
    ):
        assert weight.data().asnumpy().std() == pytest.approx(std, rel=0.1)
    shapes = [
        unit.se.reduce.weight.shape[0]
        for stage in net.stages
        for unit in stage._children.values()
        if hasattr(unit, "se")
    ]
    assert shapes == [6, 22, 42, 42, 66, 66, 160, 160, 160, 160, 160, 160, 288]


# Gates


def routed_alone(net, x, noise=None):
    """Logits of every image by the sliced network of its route."""
    paths = net.route(x, noise).asnumpy()
    return mx.nd.concat(*[net.subnet(path)(x[i : i + 1]) for i, path in enumerate(paths)], dim=0)


GATED = [
    pytest.param(TINY, {}, id="first candidates"),
    pytest.param(TINY, {"first_candidate": 2}, id="last candidates"),
    pytest.param(TINY, {"first_candidate": 1, "num_candidates": 3}, id="three candidates"),
    pytest.param(TINY, {"gate_heads": "separate"}, id="separate heads"),
    pytest.param(TINY, {"gate_output": "ratio"}, id="ratio head"),
    pytest.param(RESNET_TINY, AT_32_PIXELS, id="three gates"),
    pytest.param(RESNET_TINY, {"num_candidates": 2, "first_candidate": 1}, id="two of four"),
]


@pytest.mark.parametrize(("name", "options"), GATED)
def test_masked_networks_are_the_sliced_ones(name, options):
    net, x = trained(name, **options), images(8)
    candidates, first = options.get("num_candidates", 4), options.get("first_candidate", 0)
    # Untrained gates would choose one width for all.
    noise = mx.nd.array(np.random.RandomState(3).normal(0, 100, (8, net.num_choices, candidates)))
    with autograd.train_mode():  # running statistics in training, too
        dynamic = net.dynamic(x, noise)
    assert dynamic.choice.shape == dynamic.gate_logits.shape == (8, net.num_choices, candidates)
    paths = net.route(x, noise).asnumpy()
    assert paths.shape == (8, net.num_choices) and set(paths.ravel()) == set(range(first, first + candidates))
    np.testing.assert_array_equal((dynamic.gate_logits + noise).asnumpy().argmax(axis=2) + first, paths)
    np.testing.assert_allclose(dynamic.choice.asnumpy(), np.eye(candidates)[paths - first], atol=1e-6)
    assert_close(dynamic.logits, routed_alone(net, x, noise))
    alone = [net.dynamic(x[i : i + 1], noise[i : i + 1]).logits for i in range(8)]
    assert_close(mx.nd.concat(*alone, dim=0), dynamic.logits)
    heads = [
        (head.gate.weight.shape, head.reduce and head.reduce.weight.shape) for head in net.gates._children.values()
    ]
    gates = sum(math.prod(shape[:2]) for shapes in heads for shape in shapes if shape)
    costs = [count(net.subnet(path), 32).madds + gates for path in paths]
    if "separate" in options.values():
        assert all(head.reduce.weight.shape == (8, 24, 1, 1) for head in net.gates._children.values())
    assert_close(dynamic.madds, np.array(costs), 1e-6)


@pytest.mark.fast
def test_a_ratio_head_chooses_the_width_nearest_to_its_number():
    head = SlimmingHead(5, 4, output="ratio")
    head.initialize(mx.init.Normal(3))
    x = mx.nd.random.normal(shape=(64, 5, 1, 1))
    assert head.gate.weight.shape[:2] == (1, 5) and head.madds(66) == 5
    ratio = 3 / (1 + np.exp(-(x.asnumpy()[:, :, 0, 0] @ head.gate.weight.data().asnumpy()[0, :, 0, 0])))
    squares = (ratio[:, None] - np.arange(4)) ** 2
    logits = head(x).asnumpy()
    np.testing.assert_allclose(
        logits - logits.max(axis=1, keepdims=True), squares.min(axis=1)[:, None] - squares, atol=1e-4
    )
    assert set(logits.argmax(axis=1)) == {0, 1, 2, 3}
    # All of the one number's gradient comes through the straight-through choice, as with a logit for every width.
    head.gate.weight.grad_req = "write"
    with autograd.record():
        loss = (straight_through(mx.nd, head(x)) * mx.nd.array([0, 1, 2, 3])).sum()
    loss.backward()
    assert head.gate.weight.grad().abs().sum().asscalar() > 0


def test_noise_decides_where_it_is_larger_than_the_logits():
    net, x = trained(), images(6)
    noise = 100 * mx.nd.one_hot(mx.nd.array([0, 1, 2, 3, 0, 1]), 4).reshape((6, 1, 4))
    assert net.route(x, noise).asnumpy().ravel().tolist() == [0, 1, 2, 3, 0, 1]
    np.testing.assert_array_equal(net.dynamic(x, noise).gate_logits.asnumpy(), net.dynamic(x).gate_logits.asnumpy())
    mx.random.seed(0)
    samples = gumbel_noise((20000,)).asnumpy()
    assert samples.mean() == pytest.approx(0.5772, abs=0.05) and samples.var() == pytest.approx(np.pi**2 / 6, rel=0.05)


def test_gradient_of_the_choice_is_that_of_the_softmax():
    logits = mx.nd.array([[0.1, 2.0, -1.0], [0.0, 0.0, 0.0]])
    weight = mx.nd.array([[1.0, 2.0, 3.0]])
    logits.attach_grad()
    with autograd.record():
        choice = straight_through(mx.nd, logits)
        (choice * weight).sum().backward()
    # Equal logits, as a gate without a single active feature gives: one choice, not all.
    np.testing.assert_allclose(choice.asnumpy(), [[0, 1, 0], [1, 0, 0]], atol=1e-6)
    soft = np.exp(logits.asnumpy()) / np.exp(logits.asnumpy()).sum(axis=1, keepdims=True)
    expected = soft * (weight.asnumpy() - (soft * weight.asnumpy()).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(logits.grad.asnumpy(), expected, atol=1e-6)


@pytest.mark.parametrize("output", ["logits", "gate_logits", "madds"])
def test_static_memory_does_not_spoil_the_gradients_of_the_masked_network(output):
    net, x, found = trained(), images(8), []
    net.gates.collect_params().setattr("grad_req", "write")
    for settings in ({}, {"static_alloc": True, "static_shape": True}):
        net.hybridize(True, **settings)
        for _ in range(2):
            with autograd.record():
                loss = getattr(net.dynamic(x), output).square().mean()
            loss.backward()
        found.append(net.gates[0].gate.weight.grad().asnumpy())
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-5 * np.abs(found[0]).max())


@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize("output", ["logits", "gate_logits", "madds"])
def test_gates_learn_from_every_output(output, hybridized):
    net, x = trained(), images()
    if hybridized:
        net.hybridize()
    weight = net.gates[0].gate.weight
    assert weight.grad_req == "null"
    net.dynamic(x)
    net.gates.collect_params().setattr("grad_req", "write")
    before = values(net)
    with autograd.record():
        getattr(net.dynamic(x), output).square().sum().backward()
    assert np.abs(weight.grad().asnumpy()).max() > 0
    assert all(np.array_equal(value, before[key]) for key, value in values(net).items())


@pytest.mark.fast
@pytest.mark.parametrize(
    "options",
    [{"num_candidates": 7}, {"first_candidate": 3}, {"first_candidate": -1}, {"num_candidates": 1}],
)
def test_candidates_that_do_not_exist(options):
    with pytest.raises(ValueError, match="of the 6 widths 0 to 5: change num_candidates or first_candidate"):
        get_model(TINY, **options)


@pytest.mark.fast
def test_other_wrong_options():
    with pytest.raises(ValueError, match="gate_heads is 'none'; choose one of shared, separate"):
        get_model(TINY, gate_heads="none")
    with pytest.raises(ValueError, match="gate_output is 'scalar'; choose one of one_hot, ratio"):
        get_model(TINY, gate_output="scalar")
    with pytest.raises(ValueError, match="ratios=.* ascending, and end with 1"):
        get_model("slimmable_mobilenet_v1", ratios=(0.5, 0.25, 1.0))
    with pytest.raises(ValueError, match="gates read squeeze-and-excitation"):
        get_model("ds_resnet50", se_reduction=None)
    with pytest.raises(ValueError, match="drop_connect must be 0"):
        get_model(TINY, drop_connect=0.1)
    with pytest.raises(ValueError, match="slimmable_mobilenet_v1 has no gates"):
        trained("slimmable_mobilenet_v1").dynamic(images())
    with pytest.raises(ValueError, match="group_size=16 must divide the 24 channels"):
        ChannelGroupNorm(24)


def test_group_norm_of_channels():
    layer = ChannelGroupNorm(32, epsilon=1e-3, group_size=8)
    layer.initialize()
    random = np.random.RandomState(0)
    gamma, beta, x = (random.standard_normal(shape) for shape in ((32,), (32,), (2, 32, 5, 5)))
    layer.gamma.set_data(mx.nd.array(gamma))
    layer.beta.set_data(mx.nd.array(beta))
    groups = x.reshape(2, 4, -1)
    mean, var = groups.mean(axis=2, keepdims=True), groups.var(axis=2, keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-3)).reshape(x.shape) * gamma[:, None, None] + beta[:, None, None]
    np.testing.assert_allclose(layer(mx.nd.array(x)).asnumpy(), expected, atol=1e-5)


# The authors' training steps


def smoothed(logits, labels):
    """Cross-entropy with label smoothing 0.1, mean over the images."""
    log = mx.nd.log_softmax(logits)
    return (-0.9 * mx.nd.pick(log, labels) - 0.1 * log.mean(axis=1)).mean()


def reference(name):
    return json.loads((Path(PARITY) / f"{name}.json").read_text())


def official_net(prefix="", **options):
    data = reference("dsmbnet_dynamic")
    if prefix:
        data.pop("explicit")
    net = get_model("ds_mobilenet_v1", **options)
    load_official(net, detrand_state(data, prefix))
    net.cast("float64")
    return net


def detrand_state(data, prefix=""):
    """The state of a reference: the rule, `bn_scale` (a power of two for the statistics), and what is explicit."""
    state = {key: detrand.tensor(prefix + key, shape) for key, shape in data["state"]}
    for key, scale in data["bn_scale"].items():
        state[f"{key}.running_mean"] = state[f"{key}.running_mean"] * np.float32(scale)
        state[f"{key}.running_var"] = state[f"{key}.running_var"] * np.float32(scale**2)
    for key, value in data.get("explicit", {}).items():
        state[key] = np.array(value, np.float32).reshape(data["explicit_shape"][key])
    return state


@needs_references
def test_gradients_of_a_step_of_the_first_stage_are_the_authors():
    step = reference("step_ieb_plain")
    net, teacher = official_net(dropout=0.0), official_net("ema.")
    x, labels = (mx.nd.array(v, dtype="float64") for v in (detrand.images(**step["input"]), step["target"]))
    soft = mx.nd.softmax(teacher(x))
    params = [param for param in net.collect_params().values() if param.grad_req != "null"]
    for param in params:
        param.grad_req = "add"
    net.hybridize()
    for which, (_, official) in zip(("largest", 1, 4, "smallest"), step["losses_fp64"]):
        with autograd.record():
            logits = net.subnet(which)(x)
            if which == "largest":
                loss = smoothed(logits, labels)
            else:
                loss = -(soft * mx.nd.log_softmax(logits)).sum(axis=1).mean()
        loss.backward()
        assert float(loss.asscalar()) == pytest.approx(official, rel=1e-6)
    keys = DS_NET.keys(net)
    for key, official in step["grad_fp64"].items():
        gradient = keys[key].grad().asnumpy()
        assert np.linalg.norm(gradient) == pytest.approx(official["norm"], rel=1e-6), key
        np.testing.assert_allclose(gradient.ravel()[:8], official["first8"], rtol=1e-5, atol=1e-6)


@needs_references
def test_gradient_of_a_step_of_the_second_stage_is_the_authors():
    step = reference("step_sgs")
    net = official_net()
    net.gates.collect_params().setattr("grad_req", "write")
    x, labels, targets = (
        mx.nd.array(v, dtype="float64") for v in (detrand.images(**step["input"]), step["target"], step["gate_target"])
    )
    assert net.subnet("smallest")(x).argmax(axis=1).asnumpy().tolist() == step["smallest_pred"]
    with autograd.record():
        out = net.dynamic(x)
        task = smoothed(out.logits, labels)
        # A softmax of a softmax, as in the authors' code.
        gate = smoothed(mx.nd.softmax(out.gate_logits[:, 0]), targets)
        loss = task + gate + 0.5 * (out.madds.mean() / 1e9) ** 2
    loss.backward()
    assert float(task.asscalar()) == pytest.approx(step["ce_loss_fp64"], rel=1e-7)
    assert float(gate.asscalar()) == pytest.approx(step["gate_loss_fp64"], rel=1e-7)
    gradient = net.gates[0].gate.weight.grad().asnumpy().reshape(4, 66)
    official = np.array(step["gate_grad_fp64"])
    # The authors' MAdds have pools and a mistake in depthwise layers; their part of the gradient is 0.0007 of it.
    assert np.linalg.norm(gradient - official) < 1e-4 * np.linalg.norm(official)
