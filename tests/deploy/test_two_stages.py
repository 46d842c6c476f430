"""Exported Faster R-CNN gives the detector's detections, of one map and of a pyramid; what it proposes is proved."""

import json

import mxnet as mx
import numpy as np
import onnx
import pytest
from detectors import NAMES

from gluon_effnets import get_model
from gluon_effnets.deploy import ExportError, export, initialize_like_trained, open_exported
from gluon_effnets.deploy.to_onnx.files import onnx_runner, write_onnx_file
from gluon_effnets.deploy.two_stages import PROPOSED, TwoStageQuestion
from gluon_effnets.detection import FasterRCNN, get_detector
from gluon_effnets.detection.rcnn_parts import FPN
from gluon_effnets.runtime import load

SIDE = 128
PYRAMID = FPN._replace(pyramid=16, hidden=32, rpn_channels=16, proposals=(60, 40))
FORMS = {
    "onnx": {"format": "onnx"},
    "onnx-all": {"format": "onnx", "all_boxes": True},
    "onnx-2": {"format": "onnx", "batch": 2},
    "onnx-raw": {"format": "onnx", "raw_input": True},
    "mxnet": {},
    "mxnet-all": {"all_boxes": True},
}
KINDS = ["one map", "pyramid"]


def detector(kind):
    if kind == "one map":
        net = get_detector("faster_rcnn_mobilenet_v1_x0_25", NAMES, image_size=SIDE)
    else:
        net = FasterRCNN(get_model("mobilenet_v1_x0_25", classes=1), NAMES, PYRAMID, image_size=SIDE)
    initialize_like_trained(net)
    # So that classes and boxes of regions differ clearly.
    for layer in (net.predictor.regions.classes, net.predictor.regions.offsets, net.predictor.proposing.offsets):
        layer.weight.set_data(mx.nd.array(np.random.RandomState(1).normal(0, 0.3, layer.weight.shape)))
    return net


@pytest.fixture(scope="module")
def nets():
    return {kind: detector(kind) for kind in KINDS}


def images(number, seed=0):
    return np.random.RandomState(seed).standard_normal((number, 3, SIDE, SIDE)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_files_give_the_detections_of_the_detector(form, kind, nets, tmp_path):
    net, x = nets[kind], images(3)
    done = export(net, tmp_path / "net", **FORMS[form])
    assert done.difference < 2e-5
    opened = open_exported(done.description, trust=form.startswith("mxnet"))
    if form == "onnx-raw":
        return  # compared by the export, with pixels
    found = opened(x)
    own = [array.asnumpy() for array in net(mx.nd.array(x))]
    assert [array.shape for array in found] == [array.shape for array in own]
    assert (found[1][:, :10] > 0).all()
    # Near-equal ones change places; the export has proved each.
    assert np.median(np.abs(found[0] - own[0])) < 1e-3 and np.median(np.abs(found[1] - own[1])) < 1e-5


def test_the_runtime_without_mxnet_runs_it_and_says_what_it_is(nets, tmp_path):
    done = export(nets["pyramid"], tmp_path / "net", format="onnx")
    content = json.loads(done.description.read_text())
    assert content["outputs"] == ["boxes", "scores", "classes"] and content["names"] == NAMES
    assert content["selection"] == {"score_above": 0.05, "overlap": 0.5, "per_image": 100, "limits": []}
    picture = np.random.RandomState(0).randint(0, 256, (90, 50, 3)).astype(np.uint8)
    for file in (done.description, done.files[0]):
        found = load(file)(picture)
        assert 10 < len(found) <= 100
        assert all(0 <= one.box[0] <= one.box[2] <= 50 and one.name in NAMES for one in found)


def test_regions_begin_between_pixels_in_a_pyramid_alone(nets, tmp_path):
    begins = {}
    for kind in KINDS:
        model = onnx.load(str(export(nets[kind], tmp_path / "net", format="onnx").files[0]))
        aligned = [node for node in model.graph.node if node.op_type == "RoiAlign"]
        assert len(aligned) == (1 if kind == "one map" else 4)
        modes = [one.s.decode() for node in aligned for one in node.attribute if one.name.startswith("coordinate")]
        begins[kind] = set(modes)
    assert begins == {"one map": {"output_half_pixel"}, "pyramid": {"half_pixel"}}


def wrong_region(rows):
    rows[0, 3, 2:] = rows[0, 3, 2:][::-1].copy()


def wrong_score(rows):
    rows[1, :, 1] = np.maximum(rows[1, :, 1] - 0.01, 0.01)


def lost(rows):
    rows[0, 0:-1] = rows[0, 1:].copy()


def twice(rows):
    rows[0, 1] = rows[0, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", [wrong_region, wrong_score, lost, twice], ids=lambda damage: damage.__name__)
def test_other_proposals_are_refused(damage, kind, nets, tmp_path):
    net = nets[kind]
    asked = TwoStageQuestion.of(net, net.detections.choice, "images", images(2))
    done = export(net, tmp_path / "net", format="onnx")
    found = onnx_runner(done.files[0], (PROPOSED,))(images(2))
    assert asked.judged(found).refused is None
    damage(found[3])
    assert "in what it proposes" in asked.judged(found).refused


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_other_regions_are_refused(kind, nets, tmp_path):
    """The second stage is compared for the regions that the file looked at."""
    net = nets[kind]
    asked = TwoStageQuestion.of(net, net.detections.choice, "images", images(2))
    found = onnx_runner(export(net, tmp_path / "net", format="onnx").files[0], (PROPOSED,))(images(2))
    found[0][1, 7] += 2
    refused = asked.judged(found).refused
    assert refused is not None and "proposes" not in refused


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_pool_other_regions_are_refused(kind, nets, tmp_path, monkeypatch):
    from gluon_effnets.deploy.to_onnx import regions

    monkeypatch.setattr(
        regions._Aligning, "_images", lambda self: self._graph.add("Identity", [_zeros(self)], "images_of_regions")
    )
    with pytest.raises(ExportError, match="the exported graph differs from the network"):
        export(nets[kind], tmp_path / "net", format="onnx")
    assert not list(tmp_path.iterdir())


def _zeros(aligning):
    shape = aligning._graph.add("Shape", [aligning._corners], "shape_of_corners")
    rows = aligning._graph.add("Slice", [shape, *(aligning._graph.integers([n], "n") for n in (0, 1, 0))], "rows")
    zero = onnx.helper.make_tensor("value", 7, [1], [0])
    return aligning._graph.add("ConstantOfShape", [rows], "zeros", value=zero)


def test_8_bits_and_files_of_strangers_are_one_sentence(nets, tmp_path):
    with pytest.raises(ValueError, match="would propose others; export it in float32"):
        export(nets["one map"], tmp_path / "net", format="onnx", int8=[images(8)])
    assert not list(tmp_path.iterdir())
    done = export(nets["one map"], tmp_path / "net")
    with pytest.raises(ValueError, match="ROIAlign, which reads memory wherever its regions are.*--trust-library"):
        open_exported(done.description)


@pytest.mark.parametrize("side, scale", [(4, 2), (5, 3), (12, 2), (7, 4)])
@pytest.mark.parametrize("batch", [None, 2])
def test_enlarged_maps_have_the_nearest_pixels(side, scale, batch, tmp_path):
    """A scale of a bit more than 2 gave pixel 0 in place of pixel 1."""
    symbol = mx.sym.UpSampling(mx.sym.var("data"), scale=scale, sample_type="nearest")
    x = np.random.RandomState(0).standard_normal((2, 3, side, side)).astype(np.float32)
    run = onnx_runner(write_onnx_file(symbol, {}, tmp_path / "net", x.shape[1:], batch, ["maps"]))
    assert (run(x) == x.repeat(scale, axis=2).repeat(scale, axis=3)).all()
