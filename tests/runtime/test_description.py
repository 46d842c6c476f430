"""What is not loaded, and why: descriptions and files that are damaged, foreign, or made to lead elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import onnx
import pytest
from exports import exported

from gluon_effnets.runtime import load

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("export"))


@pytest.fixture
def description(made, tmp_path):
    for path in (made, made.with_suffix(".onnx")):
        shutil.copy(path, tmp_path)
    return tmp_path / made.name


def change(path, **values):
    content = json.loads(path.read_text())
    content.update(values)
    path.write_text(json.dumps(content))


def refused(path, error=ValueError):
    with pytest.raises(error) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


@pytest.mark.parametrize("name", ["../net.onnx", "/etc/x", "a/b.onnx", "..", "", "a\\b.onnx", "c:net.onnx", 3, None])
def test_files_lie_beside_the_description(name, description):
    change(description, files=[name])
    assert "it may name files beside itself alone" in refused(description)


@pytest.mark.parametrize(
    "values, part",
    [
        ({"mean": [1, 2]}, "mean is"),
        ({"mean": [1.0]}, "mean is for 1 channels, std for 3"),
        ({"mean": [float("nan"), 0, 0]}, "mean is"),
        ({"std": [1, 0, 1]}, "std is"),
        ({"image_size": 10**9}, "image_size is 1000000000"),
        ({"image_size": True}, "image_size is True"),
        ({"image_size": 33}, "said to take data of 3 x 33 x 33"),
        ({"crop": 0}, "crop is 0"),
        ({"crop": 1e-9}, "crop is 1e-09"),
        ({"interpolation": "nearest"}, "one of bilinear, pillow_bilinear, pillow_bicubic"),
        ({"channel_order": "gbr"}, "one of rgb, bgr"),
        ({"names": ["a"]}, "has 1 names, but 7 classes"),
        ({"names": [1] * 7}, "names is [1, 1"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"model": None}, "model is None"),
        ({"format": "mxnet"}, "export for 'mxnet'"),
        ({"kind": "another"}, "does not describe an exported network"),
        ({"files": []}, "does not name the one ONNX file"),
        ({"files": None}, "does not name the one ONNX file"),
        ({"sha256": {"net.onnx": "0" * 64}}, "is cut short or from another export"),
    ],
)
def test_descriptions_that_cannot_be(values, part, description):
    change(description, **values)
    assert part in refused(description)


def test_the_digest_of_the_right_file_is_accepted(description):
    content = description.with_suffix(".onnx").read_bytes()
    change(description, sha256={"net.onnx": hashlib.sha256(content).hexdigest()}, a_key_of_later_versions=1)
    assert load(description).num_classes == 7


@pytest.mark.parametrize("text", ["", "[]", "3", '{"kind": ', "[" * 100_000, "\xff"])
def test_texts_that_are_no_description(text, description):
    description.write_bytes(text.encode("latin-1"))
    assert "does not describe an exported network" in refused(description)


def test_missing_and_irregular_files(description, tmp_path):
    assert "no exported network at" in refused(tmp_path / "absent.json", FileNotFoundError)
    assert "no ONNX file at" in refused(tmp_path / "absent.onnx", FileNotFoundError)
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "no regular file" in refused(tmp_path / "pipe.onnx")
    description.with_suffix(".onnx").unlink()
    assert "no ONNX file at" in refused(description, FileNotFoundError)


def test_damaged_onnx_files(description):
    path = description.with_suffix(".onnx")
    content = path.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        path.write_bytes(damaged)
        assert "ONNX Runtime cannot load" in refused(path)


def without_metadata(path, **values):
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, values)
    onnx.save(model, str(path))


def test_files_without_metadata_are_described_by_the_json_file_beside_them(description, tmp_path):
    path = description.with_suffix(".onnx")
    expected = load(path).facts
    without_metadata(path)
    assert "is cut short or from another export" in refused(path)
    change(description, sha256=None)  # as older versions wrote it
    assert load(path).facts == expected
    description.unlink()
    assert "net.json is not beside it" in refused(path)


def test_metadata_that_cannot_be(description):
    path = description.with_suffix(".onnx")
    without_metadata(path, num_classes="many", mean="[1, 2, 3]")
    assert "metadata are not those of an export" in refused(path)
    without_metadata(path, num_classes="7", mean="[1, 2]")
    assert "model is None" in refused(path)


def test_another_networks_file(description):
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, kind, ["N", 3, 32, 32]) for name in ("data", "out")]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["data"], ["out"])], "g", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=7,
    )
    onnx.save(model, str(description.with_suffix(".onnx")))
    change(description, sha256=None)
    assert "gives out in place of logits" in refused(description)


def test_threads(made):
    with pytest.raises(ValueError, match="threads is 0; it must be at least 1"):
        load(made, threads=0)


def test_a_missing_onnx_runtime_is_one_sentence(made, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="python -m pip install onnxruntime"):
        load(made)
