"""The aligned forms of ShuffleNets and CondenseNets: the same logits, exported and loaded again."""

import collections
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model, native
from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks.condensenet_variants import compare_variants
from gluon_effnets.benchmarks.latency.networks import LATENCY_RUNTIMES, Network
from gluon_effnets.benchmarks.memory_layouts import compare_layouts, variants_table
from gluon_effnets.deploy import export, load_exported
from gluon_effnets.deploy.aligned.select import aligned
from gluon_effnets.deploy.graph.inference import inference_graph
from gluon_effnets.deploy.to_onnx.files import onnx_runner, write_onnx_file
from gluon_effnets.models.condense import condense
from gluon_effnets.nn import ConvBN, ShuffleUnit, masked_layers

pytestmark = pytest.mark.fast

NETWORKS = [
    ("shufflenet_v1_g3_x1_0", {}),
    ("shufflenet_v1_g3_x0_5", {"shuffle": "paper"}),
    ("shufflenet_v1_g8_x0_5", {"shuffle": "none"}),
    ("shufflenet_v1_g8_x0_25", {}),
    ("shufflenet_v1_g4_x0_5", {}),
    ("shufflenet_v1_g2_x0_25", {}),
    ("shufflenet_v1_g1_x0_25", {}),
    ("shufflenet_v1_arch2_g8_x0_5", {"stem_pool": False, "stem_stride": 1}),
    ("shufflenet_v2_x0_5", {}),
    ("shufflenet_v2_x1_0", {}),
    ("shufflenet_v2_x1_0", {"definition": "torchvision"}),
    ("shufflenet_v2_x1_5", {"definition": "torchvision", "dropout": 0.3}),
]
V2 = [
    *(network for network in NETWORKS if network[0].startswith("shufflenet_v2")),
    ("shufflenet_v2_x0_5", {"definition": "torchvision", "in_channels": 1}),
    ("shufflenet_v2_x1_5", {}),
    ("shufflenet_v2_x2_0", {}),
]


def trained(name, **options):
    """A network whose BN layers have statistics of their own, as after training."""
    mx.random.seed(0)
    net = get_model(name, classes=10, **options)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    for key, param in net.collect_params().items():
        if key.endswith(("running_mean", "beta")):
            param.set_data(mx.nd.random.normal(0, 0.2, param.shape))
        if key.endswith(("running_var", "gamma")):
            param.set_data(mx.nd.random.uniform(0.5, 1.5, param.shape))
    return net


def images(n=2, size=64, seed=0, channels=3):
    return mx.nd.array(np.random.RandomState(seed).standard_normal((n, channels, size, size)))


def difference(seen, expected):
    """Largest difference of a logit, in standard deviations of the logits."""
    seen, expected = seen.asnumpy(), expected.asnumpy()
    return np.abs(seen - expected).max() / expected.std()


@pytest.mark.parametrize("name", ["shufflenet_v1_g3_x0_25", "shufflenet_v2_x0_5", "condensenet_v2_tiny"])
def test_a_gamma_that_is_fixed_counts_as_1(name):
    net = condense(pruned(name)) if name.startswith("condensenet") else trained(name)
    layers = []
    net.apply(lambda block: layers.append(block) if isinstance(block, mx.gluon.nn.BatchNorm) else None)
    free = net(images()).asnumpy()
    for layer in layers:
        layer._kwargs["fix_gamma"] = True  # of BatchNorm(scale=False), whose gamma may have any value
    fast = aligned(net)  # before the network runs, which makes its fixed gammas 1
    expected = net(images())
    assert np.abs(expected.asnumpy() - free).max() > 0.1 * free.std()
    assert difference(fast(images()), expected) < 1e-4


@pytest.mark.parametrize("form", ["auto", "grouped", "dense"])
@pytest.mark.parametrize("name, options", NETWORKS)
def test_logits_are_those_of_the_network(name, options, form):
    net = trained(name, **options)
    fast = aligned(net, form)
    x = images()
    assert difference(fast(x), net(x)) < 2e-5
    fast.hybridize(static_alloc=True, static_shape=True)
    x = images(3, 96, 1)
    assert difference(fast(x), net(x)) < 2e-5


def operators(block):
    return collections.Counter(node["op"] for node in json.loads(inference_graph(block).tojson())["nodes"])


@pytest.mark.parametrize("format", ["mxnet", "onnx"])
@pytest.mark.parametrize("name, options", V2)
def test_pieces_give_the_logits_of_the_network_without_shuffle_and_split(name, options, format):
    net = trained(name, **options)
    fast = aligned(net, "pieces", format)
    x = images(channels=net.in_channels)
    assert difference(fast(x), net(x)) < 1e-5
    fast.hybridize(static_alloc=True, static_shape=True)
    x = images(3, 96, 1, net.in_channels)
    assert difference(fast(x), net(x)) < 1e-5
    assert operators(fast)["Concat"] == 16
    assert set(operators(fast)) == {
        "null",
        "Activation",
        "Concat",
        "Convolution",
        "Pooling",
        "Flatten",
        "FullyConnected",
    }


@pytest.mark.parametrize("name, options", V2)
def test_pieces_in_onnx_runtime(name, options, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    net = trained(name, **options)
    fast = aligned(net, "pieces", "onnx")
    arrays = {key: param.data() for key, param in fast.collect_params().items()}
    path = write_onnx_file(inference_graph(fast), arrays, tmp_path / "net", (net.in_channels, 64, 64), 2)
    x = images(channels=net.in_channels)
    assert difference(mx.nd.array(onnx_runner(path)(x.asnumpy())), net(x)) < 1e-5
    used = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert used == {"Conv", "Relu", "MaxPool", "Concat", "GlobalAveragePool", "Flatten", "Gemm"}


@pytest.mark.parametrize(
    "name, options, formats",
    [
        ("shufflenet_v2_x0_5", {}, []),
        ("shufflenet_v2_x1_0", {}, ["mxnet"]),
        ("shufflenet_v2_x1_0", {"definition": "torchvision"}, ["mxnet"]),
        ("shufflenet_v2_x1_5", {}, []),
        ("shufflenet_v2_x2_0", {}, ["mxnet", "onnx"]),
        ("shufflenet_v2_x2_0", {"definition": "torchvision"}, ["mxnet", "onnx"]),
    ],
)
def test_pieces_are_chosen_where_few_zeros_fill_them(name, options, formats):
    net = trained(name, **options)
    counts = {format: operators(aligned(net, format=format))["SliceChannel"] for format in ("mxnet", "onnx")}
    assert counts == {format: 0 if format in formats else 3 + 7 + 3 for format in counts}


def test_every_runtime_measures_the_graph_that_is_exported_for_it(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    network = Network("net", trained("shufflenet_v2_x0_5"), (64, 64), tmp_path)
    [path] = network.request(LATENCY_RUNTIMES["onnxruntime-aligned"], 1, "pieces")["files"]
    assert "Split" not in [node.op_type for node in onnx.load(path).graph.node]
    [path] = network.request(LATENCY_RUNTIMES["onnxruntime-aligned"], 1, "auto")["files"]
    exported = export(network.net, tmp_path / "net", 64, True, format="onnx", batch=1, runtime="onnxruntime")
    measured, written = (onnx.load(str(file)).graph for file in (path, exported.files[0]))
    assert [node.op_type for node in measured.node] == [node.op_type for node in written.node]
    assert [array.dims for array in measured.initializer] == [array.dims for array in written.initializer]
    in_mxnet = network.request(LATENCY_RUNTIMES["mxnet-aligned"], 1, "auto")["files"]
    assert [array.shape[0] for array in mx.nd.load(in_mxnet[1]).values() if array.shape[1:] == (3, 3, 3)] == [24]


def test_squeeze_and_excitation_is_kept():
    # Of the last unit alone: sigmoid gates of 16 random units make the whole network ill-conditioned.
    net = trained("shufflenet_v1_se_g3_x2_0")
    fast = aligned(net)
    x = images()
    for unit, copy in zip(net.stages[2]._children.values(), list(fast._children.values())[2:]):
        y = mx.nd.relu(
            images(2, 16, 3, channels=unit.reduce.conv.weight.shape[1] * unit.reduce.conv._kwargs["num_group"])
        )
        assert difference(copy(y), unit(y)) < 2e-5
    assert np.isfinite(fast(x).asnumpy()).all()


def pruned(name, **options):
    net = trained(name, **options)
    for layer in masked_layers(net).values():
        while not layer.finished:
            layer.drop()
    return net


CONDENSENETS = [
    ("condensenet_v2_tiny", {}),
    ("condensenet_v2_tiny", {"stem_stride": 2, "in_channels": 1}),
    ("condensenet_tiny", {}),
    ("cifar_condensenet_v2_110", {}),  # six groups
    ("condensenet_v2_a", {}),
]


@pytest.mark.parametrize("name, options", CONDENSENETS)
def test_logits_of_condensenets_are_those_of_the_masked_and_of_the_condensed_network(name, options):
    net = pruned(name, **options)
    channels = options.get("in_channels", 3)
    for source in (net, condense(net)):
        fast = aligned(source)
        x = images(channels=channels)
        assert difference(fast(x), net(x)) < 2e-5
        fast.hybridize(static_alloc=True, static_shape=True)
        x = images(3, 96, 1, channels)
        assert difference(fast(x), net(x)) < 2e-5


def test_condensenets_are_gathered_in_wide_groups_and_export(tmp_path):
    net = pruned("condensenet_v2_tiny")
    convolutions = []
    fast = aligned(net)
    fast.apply(lambda block: convolutions.append(block) if isinstance(block, mx.gluon.nn.Conv2D) else None)
    spatial = [conv for conv in convolutions if conv._kwargs["kernel"] == (3, 3)]
    assert spatial and all(conv.weight.shape[1] >= 16 for conv in spatial)
    exported = export(net, tmp_path / "net", 32, align=True)
    assert exported.difference < 1e-5
    assert exported.symbol.read_text().count('"op": "BatchNorm"') == 1  # before the global pooling
    graph = load_exported(exported.symbol, exported.params)
    assert difference(graph(images(5, 48)), net(images(5, 48))) < 2e-5


def test_only_pruned_condensenets_and_no_reactivated_shufflenets_have_the_form():
    with pytest.raises(ValueError, match="pruning of condensenet_tiny is not finished"):
        aligned(trained("condensenet_tiny"))
    with pytest.raises(ValueError, match="choose one of auto for condensenet_tiny"):
        aligned(pruned("condensenet_tiny"), "dense")
    with pytest.raises(ValueError, match="with reactivations has no aligned form"):
        aligned(pruned("sfr_shufflenet_v2_x0_5"))


def test_forms_of_a_condensenet_side_by_side(capsys):
    rows = compare_variants("condensenet_v2_tiny", repeats=2)
    forms = [row.variant for row in rows if not row.variant.startswith("PyTorch")]
    authors = "condensed, authors' index layer"
    assert forms == [
        "masked",
        "masked, fused",
        authors,
        "condensed",
        "aligned",
        "aligned, fused",
        "aligned, ONNX Runtime",
    ]
    assert all(row.difference < 1e-5 and 0 < row.minimum <= row.median for row in rows)
    assert main(["benchmark", "condense", "condensenet_tiny", "--repeats", "1", "--processor-time"]) == 0
    assert "| condensenet_tiny | aligned |" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["shufflenet_v1_g3_x1_0", "shufflenet_v1_g8_x1_0"])
def test_bottlenecks_have_multiples_of_8_channels_in_every_group(name):
    net = trained(name)
    units = list(aligned(net, "grouped")._children.values())[2:18]
    originals = [unit for stage in net.stages[2:] for unit in stage._children.values()]
    assert len(units) == len(originals) == 16
    for unit, original in zip(units, originals):
        groups = unit.expand[0]._kwargs["num_group"]
        hidden = unit.depthwise[0].weight.shape[0]
        assert groups == original.expand.conv._kwargs["num_group"] > 1  # not by making it dense
        assert hidden % (8 * groups) == 0 and hidden >= original.depthwise.conv.weight.shape[0]


@pytest.mark.parametrize("form", ["grouped", "dense", "pieces"])
def test_all_channels_of_shufflenet_v2_are_multiples_of_8(form):
    convolutions = []
    fast = aligned(trained("shufflenet_v2_x1_0"), form)
    fast.apply(lambda block: convolutions.append(block) if isinstance(block, mx.gluon.nn.Conv2D) else None)
    assert len(convolutions) >= 56
    assert all(conv.weight.shape[0] % 8 == 0 for conv in convolutions)


def test_the_network_itself_is_left_alone_and_bad_input_is_refused():
    net = trained("shufflenet_v2_x0_5")
    before = {key: param.data().asnumpy() for key, param in net.collect_params().items()}
    aligned(net)
    for key, param in net.collect_params().items():
        np.testing.assert_array_equal(param.data().asnumpy(), before[key])
    with pytest.raises(ValueError, match="form is 'fast'; choose one of auto, grouped, dense, pieces"):
        aligned(net, "fast")
    with pytest.raises(ValueError, match="form is 'pieces'; choose one of auto, grouped, dense for shufflenet_v1"):
        aligned(trained("shufflenet_v1_g1_x0_25"), "pieces")
    with pytest.raises(ValueError, match="format is 'tvm'; choose one of mxnet, onnx"):
        aligned(net, format="tvm")
    other = get_model("idle_tiny")
    other.initialize()
    with pytest.raises(ValueError, match="idle_tiny has no aligned form"):
        aligned(other)


def test_export_writes_the_aligned_graph(tmp_path, capsys):
    net = trained("shufflenet_v2_x0_5")
    exported = export(net, tmp_path / "net", 64, align=True)
    assert exported.difference < 1e-5
    graph = load_exported(exported.symbol, exported.params)
    assert difference(graph(images(3, 96)), net(images(3, 96))) < 2e-5
    assert "BatchNorm" not in exported.symbol.read_text()
    net.save_parameters(str(tmp_path / "net.params"))
    out = tmp_path / "again"
    arguments = ["shufflenet_v2_x0_5", str(tmp_path / "net.params"), str(out), "--image-size", "64", "--aligned"]
    assert main(["export", *arguments]) == 0
    assert "loaded again" in capsys.readouterr().out and (tmp_path / "again-symbol.json").is_file()


@pytest.mark.parametrize("groups", [2, 3, 4, 8])
def test_hybridized_gradients_equal_imperative_ones(groups):
    """Other formulations of the shuffle fail here: oneDNN finds no reorder between two grouped convolutions."""
    channels, gradients = 48 * groups, []
    mx.random.seed(0)
    unit = ShuffleUnit(channels, channels, groups)
    unit.initialize()
    x = images(2, 8, channels=channels)
    for hybrid in (False, True):
        unit.hybridize(hybrid, static_alloc=hybrid, static_shape=hybrid)
        with autograd.record():
            loss = (unit(x) * images(2, 8, 1, channels)).sum()
        loss.backward()
        gradients.append([p.grad().asnumpy() for p in unit.collect_params().values() if p.grad_req != "null"])
    for imperative, hybridized in zip(*gradients):
        assert np.abs(imperative - hybridized).max() <= 1e-4 * np.abs(imperative).max()


def test_the_plain_layout_of_unaligned_groups_changes_no_number():
    unit = ConvBN(24, 60, groups=3)
    unit.initialize()
    x = images(2, 8, channels=24)
    assert all(unit._unblock)
    expected = unit.bn(unit.conv(x))
    np.testing.assert_array_equal(unit(x).asnumpy(), expected.asnumpy())
    assert ConvBN(48, 96, groups=3)._unblock == ConvBN(20, 20, 3, groups=20)._unblock == (False, True)
    assert ConvBN(16, 24)._unblock == (False, True) and ConvBN(16, 32)._unblock == (False, False)


def test_all_variants_of_a_network_are_timed():
    rows = compare_layouts(["shufflenet_v1_g3_x0_25"], repeats=1)
    assert [row.variant for row in rows] == ["blocked", "inference", "plain", "compiled"][: 3 + native.load()]
    assert all(min(row[2:]) > 0 for row in rows)
    assert len(variants_table(rows).rows) == len(rows)
