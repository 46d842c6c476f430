"""`export --for`: an ONNX file has the form that was measured to be fastest in a runtime, with equal logits in any."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import trained
from onnx_graphs import difference, operators

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.deploy import answers, export, open_exported
from gluon_effnets.deploy.description import Description
from gluon_effnets.deploy.forms import IN_8_BITS, IN_MXNET, ONNX_FORMS, form_of
from gluon_effnets.deploy.model_card import model_card

pytestmark = pytest.mark.fast

SIZE = 32
NETWORKS = ("mobilenet_v1_x0_25", "idle_mbv3_small", "shufflenet_v1_g3_x0_25", "shufflenet_v2_x0_5", "condensenet_tiny")


@pytest.fixture(scope="module")
def networks():
    return {name: trained(name) for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("runtime", [*ONNX_FORMS, None])
def test_every_form_gives_the_logits_and_is_described(networks, name, runtime, tmp_path):
    net, form = networks[name], ONNX_FORMS[runtime or "portable"]
    exported = export(net, tmp_path / "net", SIZE, format="onnx", runtime=runtime)
    opened = open_exported(exported.description)
    x = np.random.RandomState(0).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)
    assert difference(opened(x), answers.float_logits(net, x)) < 2e-5

    about = opened.description
    assert about.runtime == (runtime or "portable")
    assert about.aligned == any(name.startswith(family) for family in form.aligned)
    assert about.blocks == (form.blocks or None if name.startswith("idle") else None)
    if name.startswith("idle"):
        assert ("Slice" in operators(onnx.load(str(exported.files[0])))) == (about.blocks is None)
    assert f"| form | {form_of(about)} |" in model_card(exported.description)


def test_a_condensenet_is_planned_for_the_runtime(networks, tmp_path):
    contents = {}
    for runtime in ONNX_FORMS:
        (tmp_path / runtime).mkdir()
        written = export(networks["condensenet_tiny"], tmp_path / runtime / "net", SIZE, format="onnx", runtime=runtime)
        contents[runtime] = written.files[0].read_bytes()
    assert contents["openvino"] != contents["onnxruntime"]


def test_the_command_takes_it_and_says_it(networks, tmp_path, capsys):
    networks["idle_mbv3_small"].save_parameters(str(tmp_path / "net.params"))
    command = ["export", "idle_mbv3_small", str(tmp_path / "net.params"), str(tmp_path / "net"), "--image-size", "32"]
    assert main([*command, "--format", "onnx", "--for", "onnxruntime"]) == 0
    assert "form: onnxruntime, for ONNX Runtime: the network's own graph, IdleBlocks in" in capsys.readouterr().out
    assert main([*command, "--format", "onnx", "--for", "onnxruntime", "--no-blocks"]) == 0
    assert Description.read(tmp_path / "net.json").blocks is None
    assert main([*command, "--for", "openvino"]) == 1
    assert "only ONNX files in float32 have forms for several runtimes" in capsys.readouterr().err


def test_what_is_asked_for_goes_before_what_was_measured(networks, tmp_path):
    for align in (False, True):
        export(networks["shufflenet_v2_x0_5"], tmp_path / "net", SIZE, align, format="onnx")
        assert Description.read(tmp_path / "net.json").aligned is align


def test_refusals(networks, tmp_path):
    net = networks["mobilenet_v1_x0_25"]
    with pytest.raises(ValueError, match="runtime is 'tvm'; choose one of portable, onnxruntime, openvino"):
        export(net, tmp_path / "net", SIZE, format="onnx", runtime="tvm")
    images = [np.zeros((8, 3, SIZE, SIZE), np.float32)]
    with pytest.raises(ValueError, match="in float32 have forms"):
        export(net, tmp_path / "net", SIZE, format="onnx", runtime="openvino", int8=images)
    assert not list(tmp_path.iterdir())


def test_forms_of_other_files(networks):
    for form in (IN_MXNET, IN_8_BITS):
        assert [name for name, net in networks.items() if form.aligns(net)] == ["condensenet_tiny"]
    assert not any(form.aligns(trained("sfr_shufflenet_v2_x0_5")) for form in ONNX_FORMS.values())


def test_a_network_that_the_aligned_graph_does_not_equal_keeps_its_own(networks, tmp_path, monkeypatch):
    """As rounding does to networks far from any that was trained; nobody asked for the aligned graph."""
    other = trained("shufflenet_v2_x0_5")
    other.output.weight.set_data(1.01 * other.output.weight.data())
    monkeypatch.setattr(answers, "aligned", lambda net, format: other)
    net = networks["shufflenet_v2_x0_5"]
    exported = export(net, tmp_path / "net", SIZE, format="onnx", runtime="onnxruntime")
    assert not Description.read(exported.description).aligned
    with pytest.raises(ValueError, match="differ"):
        export(net, tmp_path / "net", SIZE, True, format="onnx", runtime="onnxruntime")


def test_no_two_convolutions_share_a_bias(tmp_path):
    """OpenVINO would leave it behind the convolution; the biases of an untrained network are equal."""
    net = get_model("mobilenet_v1_x0_25", classes=3)
    net.initialize()
    export(net, tmp_path / "net", SIZE, format="onnx")
    graph = onnx.load(str(tmp_path / "net.onnx")).graph
    biases = [node.input[2] for node in graph.node if node.op_type == "Conv"]
    assert len(biases) == len(set(biases)) == 27
