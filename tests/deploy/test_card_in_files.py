"""The network's card in JSON files and in the metadata of ONNX files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from networks import trained

from gluon_effnets.__main__ import main
from gluon_effnets.deploy import export, export_routed, export_subnet, load_routed
from gluon_effnets.deploy.description import Description
from gluon_effnets.models import Card, Preprocessing

pytestmark = pytest.mark.fast

NAMES = ["ant", "bee", "Käfer"]
OWN = Preprocessing((10.0, 20.0, 30.0), (40.0, 50.0, 60.0), "bgr", "pillow_bicubic", 0.8, 32)


def made(name="idle_tiny"):
    net = trained(name, classes=3)
    net.card = Card(NAMES, OWN)
    return net


def metadata(path):
    onnx = pytest.importorskip("onnx")
    texts = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    return {key: json.loads(value) if value[:1] in "[{0123456789" else value for key, value in texts.items()}


def check(found, names=NAMES, mean=OWN.mean, std=OWN.std, size=32):
    assert found["names"] == names and found["num_classes"] == 3
    assert (found["mean"], found["std"], found["channel_order"]) == (list(mean), list(std), "bgr")
    assert (found["image_size"], found["crop"], found["interpolation"]) == (size, 0.8, "pillow_bicubic")


@pytest.mark.parametrize("int8", [False, True])
def test_onnx_files_have_the_card_as_metadata(int8, tmp_path):
    images = [np.random.RandomState(0).standard_normal((16, 3, 32, 32)).astype(np.float32)] if int8 else None
    files = export(made(), tmp_path / "net", format="onnx", int8=images)
    check(metadata(files.files[0]))
    check(json.loads(files.description.read_text()))


def test_what_is_asked_for_stands_in_the_files(tmp_path):
    files = export(made(), tmp_path / "net", 64, format="onnx", raw_input=True, names=["x", "y", "z"])
    for found in (metadata(files.files[0]), json.loads(files.description.read_text())):
        check(found, ["x", "y", "z"], (0, 0, 0), (1, 1, 1), 64)
        assert found["normalized_inside"] == {"mean": list(OWN.mean), "std": list(OWN.std)}


@pytest.mark.parametrize("options", [{}, {"format": "onnx"}, {"format": "onnx", "single_file": True}])
def test_routed_exports_have_the_card(options, tmp_path):
    net = made("ds_mobilenet_tiny")
    path = export_routed(net, tmp_path / "routed", **options)
    content = json.loads(path.read_text())
    check(content)
    assert list(load_routed(path).description.names or ()) == NAMES
    if options:
        check(metadata(tmp_path / content["head"][0]))
    net.classes = None
    assert "names" not in json.loads(export_routed(net, tmp_path / "routed", **options).read_text())


def test_a_width_has_the_card_of_the_whole_network(tmp_path):
    check(json.loads(export_subnet(made("ds_mobilenet_tiny"), 0, tmp_path / "width").description.read_text()))


def test_a_description_tells_the_whole_preprocessing(tmp_path):
    assert Description.read(export(made(), tmp_path / "net").description).preprocessing == OWN


def test_the_command_says_what_goes_before_the_card(tmp_path, caplog, capsys):
    made().save_parameters(str(tmp_path / "w.params"))
    (tmp_path / "names.txt").write_text("ant\nbee\ncow\n")
    arguments = ["export", "idle_tiny", str(tmp_path / "w.params"), str(tmp_path / "out")]
    assert main(arguments) == 0 and not caplog.messages
    check(json.loads((tmp_path / "out.json").read_text()))
    assert main([*arguments, "--names", str(tmp_path / "names.txt"), "--image-size", "64"]) == 0
    check(json.loads((tmp_path / "out.json").read_text()), ["ant", "bee", "cow"], size=64)
    assert "'Käfer' is gone, 'cow' is new" in caplog.text and "is for 32" in caplog.text
