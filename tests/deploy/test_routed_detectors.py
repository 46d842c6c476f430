"""A detector whose gate chooses a width for every image, as files for either runtime, and without MXNet."""

import json

import mxnet as mx
import numpy as np
import pytest
from boxed import drawn, write_voc
from detectors import NAMES

from gluon_effnets.__main__ import main
from gluon_effnets.deploy import ExportError, export_routed, load_routed, open_exported
from gluon_effnets.deploy.compare_detections import DetectionQuestion
from gluon_effnets.deploy.routed.answers import RoutedDetections
from gluon_effnets.detection import get_detector
from gluon_effnets.evaluate import ImageDetector
from gluon_effnets.runtime import load

SIDE = 96
FORMATS = ["mxnet", "onnx"]


def images(number, seed=0):
    return np.random.RandomState(seed).standard_normal((number, 3, SIDE, SIDE)).astype(np.float32)


def picture(seed):
    """As the weights of the test take them: they are normalized to about 1."""
    noise = np.random.RandomState(seed).randint(-2, 3, (90, 50, 3))
    return (np.array([124, 117, 104]) + noise).astype(np.uint8)


@pytest.fixture(scope="module")
def net():
    net = get_detector("fssd300_ds_mobilenet_v1", NAMES, image_size=SIDE)
    net.initialize()
    # Activations neither grow nor vanish, so that widths, classes and boxes differ clearly.
    random = np.random.RandomState(1)
    for param in net.collect_params().values():
        if len(param.shape) == 4:
            deviation = np.sqrt(2 / np.prod(param.shape[1:]))
            param.set_data(mx.nd.array(random.normal(0, deviation, param.shape)))
        elif param.name.endswith("gamma"):
            param.set_data(mx.nd.full(param.shape, 1.6))
    # A gate that decides otherwise for other images.
    gate = net.predictor.net.gates[0].gate.weight
    for seed in range(40):
        gate.set_data(mx.nd.array(np.random.RandomState(seed).standard_normal(gate.shape)))
        if len(set(net.route(mx.nd.array(images(6))))) > 1:
            return net
    raise AssertionError("no gate decides otherwise for other images")


@pytest.fixture(scope="module")
def written(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("routed")
    return {format: export_routed(net, folder / format, format=format) for format in FORMATS}


@pytest.mark.parametrize("format", FORMATS)
def test_images_are_grouped_by_decision_and_give_the_detections_of_their_width(format, net, written):
    x, loaded = images(6), load_routed(written[format])
    given = mx.nd.array(x) if format == "mxnet" else x
    assert loaded(given).decisions.tolist() == net.route(mx.nd.array(x)).tolist()
    found, decisions = loaded.detections(x), loaded(given).decisions
    assert [array.shape for array in found] == [(6, 300, 4), (6, 300), (6, 300)]
    for width in set(decisions):
        rows = decisions == width
        asked = DetectionQuestion.of(net.at_width(width), net.detections.choice, "images", x[rows])
        assert asked.judged([array[rows] for array in found]).refused is None
    boxes, *_ = loaded.detect(x, [(480, 640)] * 6)
    assert boxes[..., 0::2].max() > SIDE


@pytest.mark.parametrize("format", FORMATS)
def test_the_description_says_what_routes_and_detections_are(format, net, written):
    content = json.loads(written[format].read_text())
    assert content["task"] == "detection" and content["names"] == NAMES and content["image_size"] == SIDE
    assert content["outputs"] == ["boxes", "scores", "classes"] and content["selection"]["per_image"] == 300
    madds = [route["madds"] for route in content["routes"]]
    assert [route["width"] for route in content["routes"]] == [0, 1, 2, 3] and madds == sorted(set(madds))
    with pytest.raises(ValueError, match="load_routed"):
        open_exported(written[format])


def test_the_runtime_without_mxnet_gives_the_same(net, written):
    pictures = [picture(seed) for seed in range(4)]
    alone = load(written["onnx"])
    x = np.stack([alone.input(each)[0] for each in pictures])
    found = load_routed(written["onnx"]).detections(x)
    for array, other in zip(alone.arrays(x), found):
        assert np.array_equal(array, other)
    assert len(alone(pictures)) == 4 and all(one.name in NAMES for one in alone(pictures)[0])
    with pytest.raises(ValueError, match="map"):
        load(written["onnx"].with_name("onnx-head.onnx"))


def test_another_gate_or_width_is_refused(net, tmp_path, monkeypatch):
    plain = RoutedDetections.graphs

    def swapped(self, chooses, single_file):
        graphs = plain(self, chooses, single_file)
        widths = list(graphs.tails)
        return graphs._replace(tails=dict(zip(widths, [graphs.tails[width] for width in widths[::-1]])))

    monkeypatch.setattr(RoutedDetections, "graphs", swapped)
    with pytest.raises(ExportError, match="differs from the network"):
        export_routed(net, tmp_path / "net", format="onnx")
    monkeypatch.setattr(RoutedDetections, "decisions", lambda self, images: np.array([9] * len(images)))
    with pytest.raises(ExportError, match="gate decides otherwise"):
        export_routed(net, tmp_path / "net", format="onnx")
    assert not list(tmp_path.iterdir())


def test_predict_takes_them_and_the_command_writes_them(net, written, tmp_path, capsys):
    from PIL import Image

    path = tmp_path / "one.png"
    Image.fromarray(picture(0)).save(path)
    own = ImageDetector.of_net(net)(str(path))
    for format in FORMATS:
        found = ImageDetector.of_export(written[format])(str(path))
        assert len(found.boxes) == len(own.boxes) and np.abs(found.scores - own.scores).max() < 1e-4
    net.save_parameters(str(tmp_path / "w.params"))
    command = ["export", "fssd300_ds_mobilenet_v1", str(tmp_path / "w.params"), str(tmp_path / "out")]
    assert main([*command, "--routed", "--format", "onnx"]) in (0, None)
    assert "out-width3.onnx" in capsys.readouterr().out and load(tmp_path / "out.json").facts.num_classes == 3


def test_validate_scores_them_as_the_detector_itself(net, written, tmp_path, capsys):
    root = write_voc(tmp_path / "VOC2007", {"train": drawn(1), "val": drawn(4)}, NAMES)
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n")
    net.save_parameters(str(tmp_path / "w.params"))
    found = []
    for words in (["fssd300_ds_mobilenet_v1", tmp_path / "w.params"], *([written[format]] for format in FORMATS)):
        assert main(["validate", *map(str, words), "--data", f"voc:{root}", "--format", "json"]) == 0
        [row] = json.loads(capsys.readouterr().out)
        found.append([row[key] for key in ("map", "map_low", "map_high", "images")])
    assert found[0] == found[1] == found[2] and found[0][0] > 0


def test_what_it_does_not_take_is_one_sentence(net, tmp_path):
    with pytest.raises(ValueError, match="single_file"):
        export_routed(net, tmp_path / "net", format="onnx", single_file=True)
    with pytest.raises(ValueError, match="no gate"):
        export_routed(net.at_width(0), tmp_path / "net")
    with pytest.raises(ValueError, match="not of 300"):
        export_routed(net, tmp_path / "net", 300)
