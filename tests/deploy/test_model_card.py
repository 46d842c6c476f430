"""The model card of an export: YAML that hubs read, and what the description says."""

from __future__ import annotations

import pytest
import yaml

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.deploy import export

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    net = get_model("mobilenet_v1_x0_25", classes=3)
    net.initialize()
    net.classes = ["ant", "bee | wasp", "cat"]
    net.origin = {"source": "lite.pth of somewhere", "license": "Apache-2.0", "sha256": "ab" * 32}
    export(net, folder / "net", image_size=32, format="onnx")
    return folder / "net.json"


def test_the_head_is_yaml_and_the_rest_tells_the_export(exported, tmp_path, capsys):
    assert main(["card", str(exported), str(tmp_path / "README.md")]) == 0
    _, head, text = (tmp_path / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "gluon_effnets",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", "mobilenetv1"],
        "license": "apache-2.0",
    }
    for told in (
        "`net.onnx`",
        "213,843",
        "lite.pth of somewhere",
        'load("net.json")',
        "3: ant, bee | wasp, cat",
        "32 pixels",
    ):
        assert told in text, told
    assert "to be told by whoever publishes" in text.lower()


def test_it_goes_to_standard_output_and_refuses_other_files(exported, tmp_path, capsys):
    assert main(["card", str(exported)]) == 0
    assert capsys.readouterr().out.startswith("---\nlibrary_name: gluon_effnets\n")
    (tmp_path / "x.json").write_text("{}")
    assert main(["card", str(tmp_path / "x.json")]) == 1
    assert "x.json does not describe an exported network" in capsys.readouterr().err
