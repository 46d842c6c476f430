"""IdleBlocks in ONNX files keep to blocks of 16 channels: nothing is split, and the answers stay the same."""

from __future__ import annotations

import collections
import platform

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import trained
from onnx_graphs import difference, operators

from gluon_effnets import list_models
from gluon_effnets.__main__ import main
from gluon_effnets.deploy import export
from gluon_effnets.deploy.graph.inference import inference_graph
from gluon_effnets.deploy.to_onnx.files import write_onnx_file
from gluon_effnets.deploy.to_onnx.idle_blocks import LANES

pytestmark = pytest.mark.fast

SIZE = 64


def written(net, path, batch=None):
    """The ONNX files of a network, without and with the form for IdleBlocks."""
    arrays = {name: param.data() for name, param in net.collect_params().items()}
    paths = []
    for name in ("plain", "blocked"):
        # Both under one name, which stands in the file.
        prefix, blocks = path / name / "net", LANES if name == "blocked" else 0
        prefix.parent.mkdir()
        paths.append(write_onnx_file(inference_graph(net), arrays, prefix, (3, SIZE, SIZE), batch, blocks=blocks))
    return paths


def answers(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.RandomState(images).standard_normal((images, 3, SIZE, SIZE)).astype(np.float32)
    return session.run(["logits"], {"data": x})[0]


def joined_widths(path):
    """The channels of every map that a 'Concat' reads; convolutions have weights for all channels that they get."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.value_info}
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    widths = []
    for node in graph.node:
        if node.op_type == "Concat":
            widths += [shapes[name][1] for name in node.input]
        elif node.op_type == "Conv" and node.input[0] in shapes:
            [groups] = [attribute.i for attribute in node.attribute if attribute.name == "group"]
            assert shapes[node.input[0]][1] == weights[node.input[1]][1] * groups
    return widths


@pytest.mark.parametrize(
    ("name", "options", "cut", "selected"),
    [
        ("idle_efficientnet_b0", {}, 2, 0),
        ("idle_efficientnet_b0_maximum", {}, 5, 0),
        ("idle_mbv3", {}, 3, 0),
        ("idle_mbv3_m15_i20", {}, 0, 5),
        ("idle_mbv3_maximum", {}, 5, 0),
        ("idle_mbv3_small", {}, 4, 0),
        ("idle_mbv3_small_m11_i15", {}, 0, 4),
        ("idle_mbv3_small_maximum", {}, 4, 0),
        ("idle_mbv3_small", {"order": "right"}, 4, 0),
        ("idle_mbv3_small", {"idle_fraction": 0.75, "merged_concat": False}, 4, 0),
        # A block with a shortcut between two runs, behind one, and before one.
        ("idle_mbv3", {"composition": {8: 1, 10: 2}}, 1, 1),
        ("idle_mbv3", {"composition": {5: 1}, "order": "right"}, 1, 0),
        ("idle_mbv3", {"composition": {15: 1}, "order": "right"}, 0, 1),
    ],
)
def test_nothing_is_split(name, options, cut, selected, tmp_path):
    """`cut`: runs behind a convolution, which becomes two; `selected`: runs behind a sum, which two others read."""
    plain, blocked = written(trained(name, **options), tmp_path)
    before, after = (operators(onnx.load(str(path))) for path in (plain, blocked))
    assert before["Slice"] == 2 * (cut + selected) and after["Slice"] == 0
    assert after["Concat"] == before["Concat"] == cut + selected
    assert after["Conv"] == before["Conv"] + cut + 2 * selected
    assert not any(width % LANES for width in joined_widths(blocked))
    for images in (1, 3):
        assert difference(answers(blocked, images), answers(plain, images)) < 1e-5


def test_every_network_is_above():
    [mark] = test_nothing_is_split.pytestmark
    assert {name for name, *_ in mark.args[1]} == {name for name in list_models() if name.startswith("idle_")}


@pytest.mark.parametrize(
    "options",
    [
        {"order": "alternate"},
        {"idle_residual": False},
        {"shuffle": True},
        {"carry_idle": False},
        {"composition": {3: 1}, "idle_fraction": 0.25},  # 18 of 24 channels are active: two blocks take all others
    ],
)
def test_other_runs_stay(options, tmp_path):
    plain, blocked = written(trained("idle_mbv3_small", **options), tmp_path)
    assert plain.read_bytes() == blocked.read_bytes()
    assert operators(onnx.load(str(plain)))["Slice"] > 0


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "efficientnet_b0", "mobilenext_s", "shufflenet_v1_g3_x0_5", "shufflenet_v2_x0_5",
             "condensenet_v2_a", "sfr_shufflenet_v2_x0_5", "ds_mobilenet_v1"]
)  # fmt: skip
def test_other_families_stay(name, tmp_path):
    plain, blocked = written(trained(name), tmp_path)
    assert plain.read_bytes() == blocked.read_bytes()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the layouts of ONNX Runtime on x86")
def test_onnx_runtime_changes_layouts_as_often_as_in_the_baseline(tmp_path):
    def changes(path):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path.with_name("optimized.onnx"))
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        found = collections.Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
        return found["ReorderInput"] + found["ReorderOutput"], found["Add"]

    for name in ("baseline", "idle"):
        (tmp_path / name).mkdir()
    baseline, _ = written(trained("mobilenet_v3_large"), tmp_path / "baseline", 1)
    plain, blocked = written(trained("idle_mbv3_maximum"), tmp_path / "idle", 1)
    assert changes(plain) > changes(blocked) == changes(baseline)
    assert changes(blocked)[1] == 0  # all sums are part of convolutions


def test_an_export_without_blocks(tmp_path):
    net = trained("idle_mbv3_small")
    net.save_parameters(str(tmp_path / "net.params"))
    common = [
        "export",
        "idle_mbv3_small",
        str(tmp_path / "net.params"),
        str(tmp_path / "net"),
        "--image-size",
        str(SIZE),
    ]
    counts = []
    for more in ([], ["--no-blocks"]):
        assert main([*common, "--format", "onnx", *more]) == 0
        counts.append(operators(onnx.load(str(tmp_path / "net.onnx"))))
    assert "Slice" not in counts[0] and counts[1]["Slice"] == 8
    assert main([*common, "--no-blocks"]) == 1
    with pytest.raises(ValueError, match="in float32"):
        export(net, tmp_path / "net", format="mxnet", blocks=False)
