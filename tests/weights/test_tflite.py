"""TensorFlow Lite files become networks with the same answers; what does not fit or is damaged is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

pytest.importorskip("tflite", reason="the package tflite is not installed")
import tflite_files as files  # noqa: E402

from gluon_effnets import get_model  # noqa: E402
from gluon_effnets.models.preprocessing import Preprocessing  # noqa: E402
from gluon_effnets.weights import convert, load_official, read_checkpoint  # noqa: E402

pytestmark = pytest.mark.fast

SMALL = "mobilenet_v1_x0_25"
AS_TENSORFLOW = {"act": "relu6", "padding": "same", "bn_epsilon": 1e-3}
FORMS = [("float", False), ("uint8", False), ("int8", True), ("int8", False)]


def source(name=SMALL, classes=7, **options):
    options = {**(AS_TENSORFLOW if name == SMALL else {"padding": "same", "bn_epsilon": 1e-3}), **options}
    return files.trained_like(get_model(name, classes=classes, **options))


def images(side=32):
    return mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, side, side)))


@pytest.mark.parametrize("name", [SMALL, "mobilenet_v2_x0_35", "efficientnet_lite0"])
def test_a_float_file_gives_the_answers_of_its_network(tmp_path, name):
    theirs = source(name)
    files.write(tmp_path / "x.tflite", files.layers_of(theirs))
    convert(name, tmp_path / "x.tflite", tmp_path / "x.params")
    ours = get_model(name, pretrained=tmp_path / "x.params")
    assert ours.identity == theirs.identity and ours.num_classes == 7
    wanted, answer = theirs(images()).asnumpy(), ours(images()).asnumpy()
    assert np.abs(answer - wanted).max() < 2e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("form, channelwise", FORMS)
def test_every_number_is_the_one_that_the_file_means(tmp_path, form, channelwise):
    layers = files.layers_of(source(), form, channelwise)
    files.write(tmp_path / "x.tflite", layers, form=form)
    state = read_checkpoint(tmp_path / "x.tflite")
    names = [key[: -len(".weight")] for key in state if key.endswith(".weight") and not key.endswith(".bn.weight")]
    assert names[:4] == ["00.conv3x3s2.relu6", "01.depthwise3x3.relu6", "02.conv1x1.relu6", "03.depthwise3x3s2.relu6"]
    assert len(names) == len(layers) == 28
    for name, layer in zip(names, layers):
        wanted = files.dequantized(layer)
        bias = "classifier.bias" if name == "classifier" else f"{name}.bn.bias"
        weight = wanted["weight"].reshape(state[f"{name}.weight"].shape)
        np.testing.assert_allclose(state[f"{name}.weight"], weight, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(state[bias], wanted["bias"], rtol=1e-6, atol=1e-7)


def test_the_background_is_left_out(tmp_path):
    theirs = source(classes=1001)
    files.write(tmp_path / "x.tflite", files.layers_of(theirs))
    ours = get_model(SMALL, act="relu6")
    assert load_official(ours, read_checkpoint(tmp_path / "x.tflite")) == "tflite"
    np.testing.assert_allclose(ours(images()).asnumpy(), theirs(images()).asnumpy()[:, 1:], atol=1e-4)


@pytest.mark.parametrize(
    "form, side, zero, wanted",
    [
        ("float", 224, 0, ((127.5,) * 3, (127.5,) * 3, "rgb", "pillow_bilinear", 0.875, 224)),
        ("uint8", 128, 128, ((128.0,) * 3, (128.0,) * 3, "rgb", "pillow_bilinear", 128 / 146, 128)),
        ("int8", 160, -1, ((127.0,) * 3, (128.0,) * 3, "rgb", "pillow_bilinear", 160 / 182, 160)),
    ],
)
def test_the_preprocessing_is_what_the_input_says(tmp_path, form, side, zero, wanted):
    files.write(tmp_path / "x.tflite", files.layers_of(source(), form), side=side, form=form, zero=zero)
    done = convert(SMALL, tmp_path / "x.tflite", tmp_path / "x.params")
    assert done.preprocessing == Preprocessing(*wanted)
    assert get_model(SMALL, pretrained=tmp_path / "x.params").preprocessing == Preprocessing(*wanted)


def test_a_lite_keeps_its_own_crop(tmp_path):
    files.write(
        tmp_path / "x.tflite", files.layers_of(source("efficientnet_lite1"), "uint8"), side=240, form="uint8", zero=127
    )
    done = convert("efficientnet_lite1", tmp_path / "x.tflite", tmp_path / "x.params")
    assert done.preprocessing == Preprocessing(
        (127.0,) * 3, (128.0,) * 3, "rgb", "pillow_bicubic", 240 / 272, 240, crop_first=True
    )


def change(layers, number, **changes):
    return [layer._replace(**changes) if place == number else layer for place, layer in enumerate(layers)]


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"activation": 1}, "01.depthwise3x3.relu6.weight"),
        ({"stride": 2}, "01.depthwise3x3.relu6.weight"),
        ({"padding": 1}, "not padded to the same size"),
        ({"dilation": 2}, "dilated"),
    ],
)
def test_a_layer_that_does_otherwise_is_refused(tmp_path, changes, text):
    files.write(tmp_path / "x.tflite", change(files.layers_of(source()), 1, **changes))
    with pytest.raises(ValueError, match=text):
        convert(SMALL, tmp_path / "x.tflite", tmp_path / "x.params")
    assert not (tmp_path / "x.params").exists()


def test_another_activation_of_the_network_is_refused_with_the_right_one(tmp_path):
    files.write(tmp_path / "x.tflite", files.layers_of(source()))
    with pytest.raises(ValueError, match=r"get_model\('mobilenet_v1_x0_25', act='relu6', classes=7\)"):
        load_official(get_model(SMALL, classes=7), read_checkpoint(tmp_path / "x.tflite"))


def test_other_operators_are_named(tmp_path):
    files.write(tmp_path / "x.tflite", files.layers_of(source()), more=("LSTM", "SOFTMAX"))
    with pytest.raises(ValueError, match="x.tflite .*operator 28 is LSTM"):
        read_checkpoint(tmp_path / "x.tflite")


@pytest.mark.parametrize("content", [b"", b"\x00" * 4, b"\x1c\x00\x00\x00TFL3", b"<html>", b"\xff" * 64])
def test_what_is_no_such_file_is_refused(tmp_path, content):
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(ValueError, match="x.tflite is no TensorFlow Lite file that can be read here"):
        read_checkpoint(tmp_path / "x.tflite")


def test_damaged_files_give_a_sentence_or_numbers(tmp_path):
    path, draw = tmp_path / "x.tflite", random.Random(0)
    # Two layers and a classifier, so that most of the file is tables.
    layers = [files._layer("CONV_2D", np.ones((2, 3, 1, 1)), np.zeros(2), 1, 3, "uint8", False, 1 / 128)] * 3
    files.write(path, layers, form="uint8")
    whole, refused = path.read_bytes(), 0
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 4, 16])):
            damaged[draw.randrange(len(damaged))] = draw.choice([0, 255, 128, draw.randrange(256)])
        path.write_bytes(damaged[: draw.choice([len(damaged), len(damaged), draw.randrange(len(damaged))])])
        try:
            read_checkpoint(path)
        except ValueError as error:  # any other exception fails the test
            refused += 1
            assert str(path) in str(error) and len(str(error)) < 400
    assert refused > 200


def test_without_the_package_the_command_is_told(tmp_path):
    files.write(tmp_path / "x.tflite", files.layers_of(source()))
    code = "import sys; sys.modules['tflite'] = None; from gluon_effnets.weights import read_checkpoint\n"
    run = subprocess.run([sys.executable, "-c", f"{code}read_checkpoint({str(tmp_path / 'x.tflite')!r})"],
                         capture_output=True, text=True)  # fmt: skip
    assert "needed for: read x.tflite" in run.stderr and "'tflite>=2.10'" in run.stderr


def test_a_published_file_is_read_whole(tmp_path):
    """The smallest real one: 470,072 parameters, its names and its license."""
    folder = Path(os.environ.get("GLUON_EFFNETS_WEIGHTS", "nowhere"))
    path = folder / "mobilenet_v1_0.25_128_quant.tflite"
    if not path.is_file():
        pytest.skip("GLUON_EFFNETS_WEIGHTS names no folder with this file")
    done = convert(SMALL, path, tmp_path / "x.params")
    assert done.num_parameters == 470_072
    assert done.options == {"act": "relu6", "bn_epsilon": 1e-3, "padding": "same"}
    net = get_model(SMALL, pretrained=tmp_path / "x.params")
    assert net.classes[207] == "n02099601 golden retriever" and net.origin["license"] == "Apache-2.0"
