"""Libraries of TVM by their JSON file: what `tvm` writes into it, and `predict` on them; a stand-in replaces TVM."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
from images import photo

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.deploy import export, initialize_like_trained, open_exported
from gluon_effnets.deploy.description import Description, sha256
from gluon_effnets.deploy.to_onnx.files import onnx_runner
from gluon_effnets.deploy.to_tvm import compile as tvm_compiler
from gluon_effnets.evaluate.predict import ExportedClassifier

pytestmark = pytest.mark.fast

BATCH, NAMES = 2, [f"name {label}" for label in range(8)]
MADE = tvm_compiler.Compiled("", "some-cpu", "1.2.3", 5, 0, 0, 0, None, 2e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """net.onnx and net.json for two images at once, and three photographs in photos/."""
    folder = tmp_path_factory.mktemp("libraries")
    net = get_model("idle_tiny", classes=len(NAMES))
    initialize_like_trained(net)
    export(net, folder / "net", 32, format="onnx", batch=BATCH, names=NAMES)
    (folder / "photos").mkdir()
    for seed in range(3):
        cv2.imwrite(str(folder / "photos" / f"{seed}.png"), photo(seed))
    return folder


@pytest.fixture
def library(folder, tmp_path, capsys):
    """What the command makes with an interpreter that compiles nothing: the library's path."""
    python, made = tmp_path / "python", tmp_path / "net.so"
    python.write_text(f"#!/bin/sh\nprintf library > $3\necho '{json.dumps(MADE._asdict())}'\n")
    python.chmod(0o755)
    options = ["--library", str(made), "--threads", "2", "--tvm-python", str(python)]
    assert main(["tvm", str(folder / "net.json"), *options]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [str(made), f"{made}.json"]
    return made


@pytest.fixture
def shapes(folder, monkeypatch):
    """A stand-in for TVM whose libraries answer as net.onnx does; the shapes that they were given."""
    seen, run = [], onnx_runner(folder / "net.onnx")

    def answer(x):
        seen.append(x.shape)
        logits = run(x)
        return SimpleNamespace(numpy=lambda: logits)

    tvm, relax, target = (ModuleType(name) for name in ("tvm", "tvm.relax", "tvm.target"))
    tvm.cpu, tvm.relax = (lambda: None), relax
    tvm.runtime = SimpleNamespace(load_module=lambda path: None, tensor=lambda x: x)
    relax.VirtualMachine = lambda module, device: {"main": answer}
    target.codegen = SimpleNamespace(llvm_get_system_cpu=lambda: MADE.processor)
    for module in (tvm, relax, target):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return seen


def test_the_json_file_is_that_of_the_onnx_file_but_for_the_library(folder, library):
    before, about = (json.loads((place / name).read_text()) for place, name in
                     ((folder, "net.json"), (library.parent, "net.so.json")))  # fmt: skip
    changed = {key for key in about if about[key] != before.get(key)}
    assert changed == {"format", "files", "difference", "compared_on", "versions", "tvm", "sha256"}
    assert (about["format"], about["files"], about["difference"]) == ("tvm", ["net.so"], MADE.difference)
    assert about["versions"] == {**before["versions"], "tvm": MADE.tvm}
    assert about["tvm"] == {"processor": MADE.processor, "threads": 2, "sha256": sha256(library)}
    assert about["names"] == NAMES and Description.read(f"{library}.json").preprocessing.mean == tuple(before["mean"])


def test_predict_fills_the_last_batch_and_says_what_the_onnx_file_says(folder, library, shapes, capsys):
    photos = [str(folder / "photos"), "--batch", "3"]
    assert main(["predict", str(folder / "net.json"), *photos]) == 0
    expected = capsys.readouterr().out
    assert main(["predict", f"{library}.json", *photos, "--trust-library"]) == 0
    assert capsys.readouterr().out == expected
    assert expected.count(".png") == 3 and expected.count("name ") == 3 * 5
    assert shapes == 2 * [(BATCH, 3, 32, 32)]


def test_validate_scores_a_library_as_the_onnx_file(folder, library, shapes, capsys):
    data = ["--data", "synthetic:36", "--set", "data.classes=8", "--set", "data.eval_batch_size=5", "--format", "json"]
    found = []
    for trusted in ([f"{library}.json", "--trust-library"], [str(folder / "net.json")]):
        assert main(["validate", *trusted, *data]) == 0
        (record,) = json.loads(capsys.readouterr().out)
        found.append({**record, "name": "", "weights": ""})
    assert found[0] == found[1] and found[0]["images"] == 9
    # Five and four images, two at a time.
    assert shapes == 5 * [(BATCH, 3, 32, 32)]
    assert "--trust-library" in error_of(capsys, "validate", f"{library}.json", *data)


def error_of(capsys, *arguments):
    """What a command that fails says, in one line."""
    assert main(list(map(str, arguments))) == 1
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("broken", ["raise ImportError('not here')", "raise OSError('trace\\nundefined symbol')", ""])
def test_without_tvm_one_line_names_the_way_out(broken, folder, library, tmp_path, monkeypatch, capsys):
    if broken:
        (tmp_path / "tvm.py").write_text(broken)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "tvm", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "tvm", None)
    err = error_of(capsys, "predict", f"{library}.json", folder / "photos", "--trust-library")
    assert err.startswith("error: TVM cannot be imported by ") and "--tvm-python" not in err
    assert "make tvm" in err and "-m pip install apache-tvm==" in err and "trace" not in err


def test_a_library_for_another_processor_is_refused_before_it_runs(folder, library, shapes, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["tvm.target"].codegen, "llvm_get_system_cpu", lambda: "this-cpu")
    err = error_of(capsys, "predict", f"{library}.json", folder / "photos", "--trust-library")
    assert f"{library} is for the processor some-cpu, and this one is this-cpu; compile it here" in err
    assert not shapes


def test_damaged_and_missing_libraries(folder, library, shapes, capsys):
    arguments = "predict", f"{library}.json", folder / "photos"
    library.write_text("libr")
    assert f"{library} is cut short, or not the library that was described" in error_of(capsys, *arguments)
    library.unlink()
    assert f"lacks {library}" in error_of(capsys, *arguments)
    assert not shapes


def test_mistakes_with_the_names(folder, library, capsys):
    err = error_of(capsys, "predict", library, folder / "photos")
    assert "give the JSON file that tvm wrote beside it" in err
    assert main(["tvm", f"{library}.json"]) == 1
    assert "TVM compiles float ONNX files" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("tvm") is None, reason="needs TVM in the interpreter of the tests")
def test_tvm_itself_answers_as_onnx_runtime(folder, tmp_path, capsys):
    made, images = tmp_path / "net.so", sorted((folder / "photos").iterdir())
    assert main(["tvm", str(folder / "net.json"), "--library", str(made)]) == 0
    assert main(["predict", f"{made}.json", *map(str, images), "--trust-library"]) == 0
    assert capsys.readouterr().out.count(".png") == 3
    compiled, exported = ExportedClassifier(f"{made}.json", trust=True), ExportedClassifier(folder / "net.json")
    for (path, seen), (_, expected) in zip(compiled.batches(images, 3), exported.batches(images, 3)):
        np.testing.assert_allclose(seen, expected, atol=1e-5)
        assert seen.argmax() == expected.argmax(), path
    another = Description.read(f"{made}.json").tvm["processor"] + "-another"
    text = (tmp_path / "net.so.json").read_text()
    (tmp_path / "another.json").write_text(text.replace(another[: -len("-another")], another))
    with pytest.raises(ValueError, match=f"is for the processor {another}, and this one is"):
        open_exported(tmp_path / "another.json", trust=True)
