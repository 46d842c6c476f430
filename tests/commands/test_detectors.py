"""Commands for detectors: list, info, export, card, and what they do not take."""

import json

import cv2
import pytest
from detection_runs import detector_tiny
from detectors import NAMES, SMALL, trained_detector
from images import photo

from gluon_effnets.__main__ import main
from gluon_effnets.deploy.description import Description


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.params"
    trained_detector().save_parameters(str(path))
    return str(path)


@pytest.fixture(scope="module")
def description(weights, tmp_path_factory):
    prefix = tmp_path_factory.mktemp("exported") / "net"
    assert main(["export", SMALL, weights, str(prefix), "--format", "onnx", "--batch", "1", "--license", "MIT"]) == 0
    return prefix.with_suffix(".json")


def test_list(capsys):
    assert main(["list", "--detectors", "*mobilenext*"]) == 0
    out = capsys.readouterr().out
    assert "ssdlite320_mobilenext_x1_0" in out and "708.7 M" in out and "idle" not in out
    assert main(["list", "--detectors", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"detector", "classes", "params", "madds", "anchors", "base"} <= rows[0].keys()
    assert main(["list", "--detectors", "none*"]) == 1 and main(["list", "--detectors", "--family", "idle"]) == 1
    assert main(["list"]) == 0 and "ssdlite" not in capsys.readouterr().out


def test_hidden_detectors_are_detectors_in_every_command(tmp_path, capsys):
    path = str(tmp_path / "w.params")
    trained_detector(detector_tiny.__name__).save_parameters(path)
    assert main(["info", detector_tiny.__name__]) == 0
    assert main(["export", detector_tiny.__name__, path, str(tmp_path / "net")]) == 0
    assert main(["list", "--detectors"]) == 0
    assert detector_tiny.__name__ not in capsys.readouterr().out.split("net.json")[-1]


def test_info(capsys):
    assert main(["info", "ssdlite320_mobilenext_x1_0"]) == 0
    out = capsys.readouterr().out
    assert "3,476,308" in out and "708,726,528 at 320 x 320" in out and "3,234" in out
    assert main(["info", "ssdlite320_mobilenet_v3_large", "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["params"], facts["anchors"], facts["num_classes"]) == (3_440_060, 3234, 90)
    assert facts["selection"]["limits"] == [{"begin": 0, "end": 3234, "best": 300, "per_class": True}]
    assert main(["info", SMALL, "--classes", "3", "-o", "form=coco"]) == 0
    assert "3,232" in capsys.readouterr().out
    assert main(["info", SMALL, "--image-size", "300"]) == 1


def test_export_says_what_it_wrote(weights, tmp_path, capsys):
    words = ["export", SMALL, weights, str(tmp_path / "net"), "--all-boxes", "--format", "onnx"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "net.onnx" in out and "in scores, or in sides of the image" in out
    about = Description.read(tmp_path / "net.json")
    assert about.outputs == ("boxes", "scores") and about.names == tuple(NAMES)


def test_8_bits_by_images_of_a_folder(weights, tmp_path, capsys):
    for number in range(9):
        cv2.imwrite(str(tmp_path / f"{number}.png"), photo(number, 50, 70))
    words = ["export", SMALL, weights, str(tmp_path / "net"), "--int8", "--data", f"folder:{tmp_path}", "--images", "8"]
    assert main(words) == 0
    assert "of the detections, by score" in capsys.readouterr().out
    assert Description.read(tmp_path / "net.json").int8["calibration_images"] == 6
    assert main([*words[:3], str(tmp_path / "other"), "--int8", "--data", f"folder:{tmp_path / 'absent'}"]) == 1
    assert "no images in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--routed"], "has no gate that chooses a width"),
        (["--width", "0"], "do not go with detectors"),
        (["-o", "form=coco"], "do not go with detectors"),
        (["--int8"], "--int8 --data DIR"),
        (["--aligned"], "no aligned form"),
        (["--image-size", "300"], "320 x 320"),
    ],
)
def test_what_does_not_go_with_detectors(words, text, weights, tmp_path, capsys):
    assert main(["export", SMALL, weights, str(tmp_path / "net"), *words]) == 1
    assert text in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_weights_of_another_detector(weights, tmp_path, capsys):
    assert main(["export", "ssdlite320_mobilenext_x1_0", weights, str(tmp_path / "net")]) == 1
    assert f"holds the weights of '{SMALL}', not of ssdlite320_mobilenext_x1_0" in capsys.readouterr().err


def test_card(description, capsys):
    assert main(["card", str(description)]) == 0
    out = capsys.readouterr().out
    assert "pipeline_tag: object-detection" in out and "1,520,368" in out and "license: mit" in out
    assert "Resized to 320 x 320 in whatever ratio" in out and "scores above 0.01" in out and "logits" not in out
    content = json.loads(description.read_text())
    content["options"]["pretrained_base"] = "/etc/passwd"
    other = description.with_name("other.json")
    other.write_text(json.dumps(content))
    assert main(["card", str(other)]) == 0
    assert "parameters" not in capsys.readouterr().out


def test_detectors_have_no_library_of_tvm(description, capsys):
    assert main(["tvm", str(description)]) == 1
    assert "TVM compiles classifiers alone" in capsys.readouterr().err
