"""Aligned CondenseNets for each runtime: the variant of every layer, its operators, and equal logits."""

import collections
import json

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.deploy.aligned import condensenet
from gluon_effnets.deploy.aligned.condensenet_plan import COSTS, IN_MXNET, LayerShape, Variant, cheapest
from gluon_effnets.deploy.aligned.condensenet_steps import _by_readers
from gluon_effnets.deploy.aligned.select import aligned
from gluon_effnets.deploy.graph.inference import inference_graph, network_graph
from gluon_effnets.deploy.to_onnx.files import onnx_runner, write_onnx_file
from gluon_effnets.models.condense import condense
from gluon_effnets.models.condensenet import condensenet as condensenet_v1
from gluon_effnets.models.condensenetv2 import condensenet_v2
from gluon_effnets.nn import masked_layers

pytestmark = pytest.mark.fast

EVERY_VARIANT = [
    IN_MXNET,
    Variant("gathered", "grouped", "gathered"),
    Variant("gathered", "transposed", "gathered"),
    Variant("gathered", "depthwise", "dense"),
    Variant("dense", "depthwise", "dense"),
    Variant("dense", "transposed", "gathered"),
]


def pruned(net, seed=0, negative=False):
    """A net with random weights and BN statistics, pruned to the end; BN scales of both signs if `negative`."""
    mx.random.seed(seed)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    for key, param in net.collect_params().items():
        if key.endswith(("running_mean", "beta")):
            param.set_data(mx.nd.random.normal(0, 0.2, param.shape))
        if key.endswith(("running_var", "gamma")):
            param.set_data(mx.nd.random.uniform(0.5, 1.5, param.shape))
        if negative and key.endswith("gamma"):
            param.set_data(param.data() * mx.nd.sign(mx.nd.random.normal(0, 1, param.shape)))
    for layer in masked_layers(net).values():
        while not layer.finished:
            layer.drop()
    return net


def built(make, *numbers, seed=0, **options):
    """The condensed form of a network of other numbers than the registered ones have."""
    options = {"classes": 10, "stem_stride": 1, **options}
    return condense(pruned(make(*numbers, **options), seed), into=make(*numbers, condensed=True, **options))


STRUCTURES = {
    "V2, 8 groups, h-swish and SE": lambda: built(condensenet_v2, (2, 2), (8, 16), hard_swish_from=1, se_from=1),
    "V2, 4 groups, ReLU": lambda: built(condensenet_v2, (2, 1), (8, 16), 4, hard_swish_from=2, se_from=2, seed=1),
    "V2, 2 groups of reactivations": lambda: built(condensenet_v2, (2,), (8,), 4, update_groups=2, update_factor=4),
    "V1, 8 groups": lambda: built(condensenet_v1, (2, 1), (8, 16), 8),
    "BN of both signs": lambda: condense(pruned(get_model("condensenet_v2_tiny", classes=10), negative=True)),
}


@pytest.fixture(scope="module")
def networks():
    return {name: make() for name, make in STRUCTURES.items()}


def images(n=2, side=12):
    return mx.nd.array(np.random.RandomState(0).standard_normal((n, 3, side, side)))


def difference(seen, expected):
    return np.abs(np.asarray(seen) - expected).max() / expected.std()


def operators(block):
    return collections.Counter(node["op"] for node in json.loads(inference_graph(block).tojson())["nodes"])


@pytest.mark.parametrize("variant", EVERY_VARIANT, ids="-".join)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_variant_gives_the_logits(networks, structure, variant, monkeypatch):
    monkeypatch.setattr(condensenet, "planned", lambda *_: variant)
    net, x = networks[structure], images()
    for format in ("mxnet", "onnx"):
        assert difference(aligned(net, format=format)(x).asnumpy(), net(x).asnumpy()) < 2e-5


@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_files_give_the_logits_for_any_number_of_images(networks, structure, format, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    net = networks[structure]
    path = write_onnx_file(*network_graph(aligned(net, format=format)), tmp_path / "net", (3, 12, 12))
    run = onnx_runner(path)
    for number in (1, 3):
        x = images(number)
        assert difference(run(x.asnumpy()), net(x).asnumpy()) < 2e-5
    used = {node.op_type for node in onnx.load(str(path)).graph.node}
    # Sums into places that are named twice go wrong in ONNX Runtime with several threads.
    assert not used & {"ScatterND", "ScatterElements", "Transpose", "Shape", "Cast"}


def test_transposed_and_depthwise_convolutions_are_in_the_files(networks, tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    net, x = networks["V2, 8 groups, h-swish and SE"], images()
    for variant in EVERY_VARIANT[2:5]:
        monkeypatch.setattr(condensenet, "planned", lambda *_, variant=variant: variant)
        path = write_onnx_file(*network_graph(aligned(net, format="onnx")), tmp_path / "net", (3, 12, 12), 2)
        assert difference(onnx_runner(path)(x.asnumpy()), net(x).asnumpy()) < 2e-5
        kinds = collections.Counter(node.op_type for node in onnx.load(str(path)).graph.node)
        assert kinds["ConvTranspose"] == (4 if variant.spatial == "transposed" else 0)


def test_nothing_is_selected_or_copied_that_need_not_be(networks):
    net = networks["V2, 4 groups, ReLU"]  # three layers
    assert {condensenet.planned(layer, 144, "onnx") for layer in _layers(net)} == {EVERY_VARIANT[2]}
    found = operators(aligned(net, format="onnx"))
    # Into the groups of the 1x1 and of the 3x3 convolution, into those of the reactivation, and to the old features.
    assert found["take"] == 4 * 3
    assert found["Deconvolution"] == 3 and found["broadcast_maximum"] == 3
    assert found["Concat"] == 2 * 3  # rows of the reactivation, and old and new features
    assert found["elemwise_add"] == 3
    assert found["SwapAxis"] == 0
    assert found["BatchNorm"] == 3 + 1  # of new features, and in the head

    found = operators(aligned(networks["V1, 8 groups"], format="onnx"))
    assert (found["take"], found["Deconvolution"], found["Concat"], found["elemwise_add"]) == (2 * 3, 3, 3, 0)


def test_dense_layers_select_nothing(networks, monkeypatch):
    monkeypatch.setattr(condensenet, "planned", lambda *_: Variant("dense", "depthwise", "dense"))
    found = operators(aligned(networks["V2, 8 groups, h-swish and SE"], format="openvino"))
    assert found["take"] == 0


def _layers(net):
    return [
        layer for stage in list(net.features._children.values())[:-1] for layer in stage if hasattr(layer, "reduce")
    ]


def test_a_reactivation_is_taken_apart_by_how_many_groups_update_a_feature():
    # Two groups, five features: updated by group 0, by both, by none, by group 1, by group 1.
    table = np.array([[0, 1, 5, 5, 5], [5, 2, 5, 3, 4]])
    weight = np.zeros((5, 4, 1, 1))
    weight[[0, 1], 0::2] = [[[[1]], [[2]]], [[[3]], [[4]]]]
    weight[[1, 3, 4], 1::2] = [[[[5]], [[6]]], [[[7]], [[8]]], [[[9]], [[10]]]]
    single, several, place = _by_readers(table, weight)
    np.testing.assert_array_equal(single.weight[..., 0, 0], [[1, 2], [0, 0], [7, 8], [9, 10]])
    assert single.groups == 2
    np.testing.assert_array_equal(several[..., 0, 0], [[3, 5, 4, 6], [0, 0, 0, 0]])
    assert place.tolist() == [0, 4, 5, 2, 3]


@pytest.mark.parametrize(
    "format, variants",
    [
        ("onnx", ["transposed", "transposed", "transposed", "transposed", "grouped"]),
        ("openvino", ["depthwise", "depthwise", "grouped", "grouped", "grouped"]),
    ],
)
def test_the_plan_of_condensenet_v2_c_is_what_was_measured_to_be_fastest(format, variants):
    shapes = [(48, 8, 112), (144, 16, 56), (400, 32, 28), (1040, 64, 14), (1936, 128, 7)]
    chosen = [cheapest(LayerShape(c, k, 8, 8, side * side, True), COSTS[format]) for c, k, side in shapes]
    assert [variant.spatial for variant in chosen] == variants
    dense = [variant == Variant("dense", "depthwise", "dense") for variant in chosen]
    assert dense == [variant == "depthwise" for variant in variants]


def test_costs_decide(monkeypatch):
    shape = LayerShape(144, 16, 8, 8, 3136, True)
    assert cheapest(shape, COSTS["onnx"]).spatial == "transposed"
    assert cheapest(shape, COSTS["onnx"]._replace(fold=10_000)).spatial == "depthwise"
    assert cheapest(shape, COSTS["openvino"]._replace(relayout=0)).product == "gathered"
    assert condensenet.planned(None, 1, "mxnet") == IN_MXNET


def test_the_other_python_of_the_comparison(tmp_path, capsys):
    pytest.importorskip("onnx")
    python = tmp_path / "python"
    rows = [
        ["plain", "openvino", [4.0, 4.0, 5.0, 5.0, 6.0, 6.0], 0.0],
        ["aligned, for openvino", "openvino", [2.0] * 6, 1e-6],
    ]
    python.write_text(f"#!/bin/sh\necho log\necho '{json.dumps({'versions': {'openvino': '9'}, 'rows': rows})}'\n")
    python.chmod(0o755)
    command = ["benchmark", "condense", "condensenet_tiny", "--torch-python"]
    assert main([*command, str(python)]) == 0
    shown = capsys.readouterr().out
    assert (
        "| condensenet_tiny | aligned, for openvino | openvino | 2.00 | 2.00 | 2.50 (2.00 to 3.00) | 1e-06 |" in shown
    )
    assert "1 image(s), 1 thread(s), 20 repetitions in turn, openvino 9" in shown
    python.write_text("#!/bin/sh\necho no module named torch >&2\nexit 1\n")
    assert main([*command, str(python)]) == 1
    assert "failed: no module named torch" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "none")]) == 1
    assert "cannot be started: No such file or directory" in capsys.readouterr().err
    assert main(["benchmark", "condense", "condensenet_tiny", "--threads", "2"]) == 1
    assert "--batch and --threads are for --torch-python" in capsys.readouterr().err
