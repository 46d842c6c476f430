"""ONNX files give the network's answers in ONNX Runtime, for every model, and are as their readers want them."""

from __future__ import annotations

import os
from pathlib import Path

import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest
from mxnet.gluon import nn
from networks import EVERY_NETWORK, trained
from onnx_graphs import difference, exported_file, operators

from gluon_effnets import model_info
from gluon_effnets.deploy import export, open_exported
from gluon_effnets.deploy.graph.nodes import read_graph
from gluon_effnets.deploy.to_onnx.operators import OnnxNodes
from gluon_effnets.models import ClassificationNet

DATA = os.environ.get("GLUON_EFFNETS_DATA")


def image_size(name):
    info = model_info(name)
    return 224 if info.family == "alexnet" else min(info.input_size, 64)


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_every_model(name, tmp_path):
    net, size = trained(name), image_size(name)
    model, exported = exported_file(net, tmp_path / name, size)
    assert exported.difference < 1e-5
    [opset] = model.opset_import
    assert (opset.domain, opset.version) == ("", 18)
    [given], [result] = model.graph.input, model.graph.output
    assert (given.name, result.name) == ("data", "logits")  # no weights
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["N", 3, size, size]
    assert [d.dim_param or d.dim_value for d in result.type.tensor_type.shape.dim] == ["N", 7]
    assert not operators(model).keys() & {"Dropout", "Identity", "Pad", "Shape", "Expand", "Cast"}
    x = np.random.RandomState(1).standard_normal((5, 3, size, size)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(exported.files[0]), providers=["CPUExecutionProvider"])
    assert difference(session.run(["logits"], {"data": x})[0], net(mx.nd.array(x)).asnumpy()) < 1e-5


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v3_small", {"padding": "same", "in_channels": 1}),
        ("efficientnet_b0", {"padding": "same", "dropout": 0.2, "drop_connect": 0.2}),
        ("idle_mbv3_small", {"shuffle": True, "merged_concat": False}),
        ("idle_mbv3_small", {"carry_idle": False, "stem_stride": 1}),
        ("mobilenext_s", {"shortcut": "mask"}),
        ("shufflenet_v1_g3_x0_5", {"shuffle": "paper"}),
        ("shufflenet_v2_x0_5", {"definition": "torchvision"}),
        ("condensenet_74_c4", {}),
    ],
)
def test_options(name, options, tmp_path):
    model, exported = exported_file(trained(name, **options), tmp_path / "net", 64)
    assert exported.difference < 1e-5
    assert operators(model)["Pad"] == 0


@pytest.mark.fast
@pytest.mark.parametrize("name", ["shufflenet_v1_g3_x0_5", "shufflenet_v2_x0_5", "condensenet_v2_a"])
def test_aligned_form(name, tmp_path):
    _, exported = exported_file(trained(name), tmp_path / "net", 64, align=True)
    assert exported.difference < 1e-5
    assert open_exported(exported.description).description.aligned


@pytest.mark.fast
def test_width_of_a_slimmable_network(tmp_path):
    net = trained("ds_mobilenet_v1")
    narrow, whole = net.subnet("smallest"), exported_file(net, tmp_path / "whole")[0]
    model, exported = exported_file(narrow, tmp_path / "narrow")
    assert exported.difference < 1e-5
    assert model.ByteSize() < whole.ByteSize() / 2  # the weights of this width alone
    assert operators(model)["Slice"] == 0


@pytest.mark.fast
def test_graphs_are_plain(tmp_path):
    """BN in the convolutions, channels joined and selected without detours: what runtimes can fuse."""
    model, _ = exported_file(trained("idle_mbv3_small"), tmp_path / "idle")
    seen = operators(model)
    assert seen["BatchNormalization"] == seen["Reshape"] == 0 and seen["Concat"] > 0
    model, _ = exported_file(trained("shufflenet_v1_g3_x0_5"), tmp_path / "shuffle")
    seen = operators(model)
    assert seen["BatchNormalization"] == 0 and seen["Reshape"] == 2 * seen["Transpose"] > 0
    net = trained("condensenet_v2_a")
    model, _ = exported_file(net, tmp_path / "condense")
    indices = [key for key in net.collect_params() if key.endswith(("index", "table"))]
    assert operators(model)["Gather"] >= len(indices) > 0
    weights = {tensor.name for tensor in model.graph.initializer}
    assert {name for node in model.graph.node for name in node.input} >= weights


@pytest.mark.fast
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "idle_mbv3_small", "condensenet_v2_a"])
def test_h_swish_is_one_operator(name, tmp_path):
    """OpenVINO takes it into the convolution before it; of a HardSigmoid and a product it makes two passes."""
    model, _ = exported_file(trained(name), tmp_path / "net")
    makers = {output: node for node in model.graph.node for output in node.output}
    assert operators(model)["HardSwish"] > 10
    for node in model.graph.node:
        gates = [makers[x] for x in node.input if node.op_type == "Mul" and x in makers]
        # Those left are the gates of squeeze-and-excitation, of maps that they do not come from.
        assert not any(gate.op_type == "HardSigmoid" and gate.input[0] in node.input for gate in gates)


@pytest.mark.fast
def test_other_gates_are_no_h_swish():
    """A HardSigmoid of another slope, or of another map, stays what it is."""
    x, y = mx.sym.var("data"), mx.sym.var("data") * 2
    for gate, count in (
        (x * mx.sym.hard_sigmoid(x, alpha=1 / 6, beta=0.5), 1),
        (mx.sym.broadcast_mul(mx.sym.hard_sigmoid(x, alpha=1 / 6, beta=0.5), x), 1),
        (x * mx.sym.hard_sigmoid(x, alpha=0.2, beta=0.5), 0),
        (x * mx.sym.hard_sigmoid(x, alpha=1 / 6, beta=0.4), 0),
        (x * mx.sym.hard_sigmoid(y, alpha=1 / 6, beta=0.5), 0),
    ):
        nodes = OnnxNodes({"logits": read_graph(gate, {}, (4,))[0]}).nodes
        assert [node.op_type for node in nodes].count("HardSwish") == count, gate.tojson()
        assert len(nodes) == 1 or not count


@pytest.mark.fast
def test_fixed_batch(tmp_path):
    net = trained("idle_mbv3_small")
    model, exported = exported_file(net, tmp_path / "net", batch=2)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    x = np.random.RandomState(1).standard_normal((5, 3, 64, 64)).astype(np.float32)
    seen = open_exported(exported.description)(x)
    assert seen.shape == (5, 7) and difference(seen, net(mx.nd.array(x)).asnumpy()) < 1e-5


@pytest.mark.fast
def test_the_session_is_the_users_after_an_export(tmp_path):
    before = onnx.defs.onnx_opset_version(), dict(onnx.checker.DEFAULT_CONTEXT.opset_imports)
    exported_file(trained("idle_mbv3_small"), tmp_path / "net")
    assert (onnx.defs.onnx_opset_version(), dict(onnx.checker.DEFAULT_CONTEXT.opset_imports)) == before


class WithErf(ClassificationNet):
    """A network with an operator that the export to ONNX does not know."""

    def __init__(self, **options):
        super().__init__(**options)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(nn.Conv2D(4, 3, in_channels=3), nn.HybridLambda("erf"), nn.GlobalAvgPool2D())
            self.num_features, self.stage_info = 4, []
            self._make_output()


@pytest.mark.fast
def test_an_unknown_operator_is_named_and_nothing_is_left(tmp_path):
    net = WithErf(classes=3)
    net.initialize()
    with pytest.raises(ValueError, match=r"operator erf \(.*no form in ONNX; export to 'mxnet'"):
        export(net, tmp_path / "net", 32, format="onnx")
    assert not list(tmp_path.iterdir())
    assert export(net, tmp_path / "net", 32).difference < 5e-6


@pytest.mark.skipif(not DATA, reason="needs GLUON_EFFNETS_DATA")
@pytest.mark.parametrize("name", ["mobilenet_v3_large", "shufflenet_v1_g3_x1_0", "condensenet_v2_a"])
def test_photographs(name, tmp_path):
    record = mx.recordio.MXIndexedRecordIO(
        *(str(Path(DATA, "imagenet_sample", f"val.{kind}")) for kind in ("idx", "rec")), "r"
    )
    images = [mx.recordio.unpack(record.read_idx(key))[1] for key in record.keys[:8]]
    pixels = [mx.image.imresize(mx.image.imdecode(image), 224, 224).asnumpy() for image in images]
    net = trained(name)
    exported = export(net, tmp_path / "net", format="onnx", raw_input=True)
    x = np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32)
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in net.preprocessing[:2])
    expected = net(mx.nd.array((x - mean) / std)).asnumpy()
    seen = open_exported(exported.description)(x)
    assert difference(seen, expected) < 1e-5
    assert (seen.argmax(axis=1) == expected.argmax(axis=1)).all()
