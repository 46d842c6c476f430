"""Exports that strangers made: nothing runs without consent, and the JSON file names files beside itself alone."""

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.deploy import export, export_routed, initialize_like_trained, load_routed, open_exported
from gluon_effnets.deploy.description import sha256
from gluon_effnets.deploy.to_tvm.compile import tvm_runner
from gluon_effnets.models.params import Stored
from gluon_effnets.models.registry import load_stored


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An export for ONNX, one for MXNet and a routed one, in a folder."""
    folder = tmp_path_factory.mktemp("exports")
    net = get_model("idle_tiny", classes=3)
    initialize_like_trained(net)
    export(net, folder / "plain", 32)
    export(net, folder / "onnx", 32, format="onnx", batch=1)
    gated = get_model("ds_mobilenet_tiny", classes=3)
    initialize_like_trained(gated)
    export_routed(gated, folder / "routed", 32)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "exports")


def changed(path, **values):
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def library(folder):
    """A library whose constructor leaves a mark, and the JSON file that names it."""
    mark, made = folder / "ran", folder / "evil.so"
    code = f'#include <stdio.h>\n__attribute__((constructor)) void run() {{ fclose(fopen("{mark}", "w")); }}'
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(made)], input=code, text=True, check=True)
    about = changed(
        folder / "onnx.json",
        format="tvm",
        files=["evil.so"],
        tvm={"processor": "any", "threads": 1, "sha256": sha256(made)},
    )
    return made, mark, about


def test_a_library_with_its_own_digest_does_not_run_without_consent(library, capsys):
    made, mark, about = library
    assert main(["predict", str(about), "a.jpg"]) == 1
    err = capsys.readouterr().err
    assert str(made) in err and "--trust-library" in err and "trust=True" in err and len(err.splitlines()) == 1
    for call in (lambda: open_exported(about), lambda: tvm_runner(made)):
        with pytest.raises(ValueError, match="trust=True"):
            call()
    assert not mark.exists()


@pytest.mark.parametrize("name", ["{made}", "../exports/evil.so", "a/../evil.so", ".", "evil.so\0"])
def test_names_that_lead_elsewhere_are_refused_even_with_consent(name, library, capsys):
    made, mark, about = library
    changed(about, files=[name.format(made=made)])
    assert main(["predict", str(about), "a.jpg", "--trust-library"]) == 1
    assert "files beside itself alone" in capsys.readouterr().err and not mark.exists()


def test_links_that_lead_out_of_the_folder_are_refused(folder, tmp_path, capsys):
    for name in ("onnx.onnx", "routed-head-symbol.json"):
        shutil.move(str(folder / name), str(tmp_path / name))
        (folder / name).symlink_to(tmp_path / name)
    for name in ("onnx.json", "routed.json"):
        assert main(["predict", str(folder / name), "a.jpg"]) == 1
        assert "a link that leads out of its folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../plain-symbol.json", "/etc/passwd"])
def test_a_manifest_names_files_beside_itself_alone(name, folder):
    manifest = folder / "routed.json"
    content = json.loads(manifest.read_text())
    content["head"][0], content["sha256"][name] = name, "0" * 64
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="files beside itself alone"):
        load_routed(manifest)


@pytest.mark.parametrize("digests", [{}, {"other": "0" * 64}, None, [], "abc"])
def test_a_manifest_without_digests_is_refused(digests, folder):
    with pytest.raises(ValueError, match="is no manifest of a routed network"):
        load_routed(changed(folder / "routed.json", sha256=digests))


@pytest.mark.parametrize("key", ["std", "mean", "image_size", "num_classes", "files", "input_shape", "names", "model"])
def test_fields_of_foreign_types_are_one_message(key, folder, capsys):
    path = folder / "plain.json"
    numbers = [0, -1, 10**30, True, [1e400], [[1]], [0.0] * 10**5]
    for value in (*numbers, [], {}, [None], ["a" * 10**6], "x" * 10**5, 2.5):
        changed(path, **{key: value})
        assert main(["predict", str(path), "a.jpg"]) == 1
        out, err = capsys.readouterr()
        assert not out and str(path) in err and len(err.splitlines()) == 1 and len(err) < 700


def test_what_a_graph_cannot_take_is_a_message_with_its_name(folder, capsys):
    about = open_exported(folder / "plain.json")
    with pytest.raises(ValueError, match="plain-symbol.json cannot run on images of the shape"):
        about(np.zeros((1, 5, 32, 32), np.float32))
    with pytest.raises(ValueError, match="onnx.onnx takes an array of"):
        open_exported(folder / "onnx.json")(np.zeros((1, 5, 32, 32), np.float32))


def test_an_unforeseen_error_of_a_library_has_no_trace(monkeypatch, capsys):
    from gluon_effnets.commands import listing

    for error in (
        KeyError("x"),
        MemoryError(),
        RecursionError(),
        OverflowError("y" * 10**6),
        UnicodeError(),
        EOFError(),
    ):

        def fail(*args, error=error, **keywords):
            raise error

        monkeypatch.setattr(listing, "list_models", fail)
        assert main(["list"]) == 1
        out, err = capsys.readouterr()
        assert not out and err.startswith("error: ") and "Traceback" not in err and len(err) < 2500 and len(err) > 10


def test_the_command_line_echoes_no_pages(capsys):
    for words in (["info", "x" * 10**5], ["info", "idle_tiny", "-o", "a" * 10**5], ["x" * 10**5], ["info", "\x1b[2J"]):
        try:
            assert main(words) == 1
        except SystemExit as end:
            assert end.code == 2
        err = capsys.readouterr().err
        assert len(err) < 3000 and "\x1b" not in err


def test_the_trace_comes_back_on_request(monkeypatch, tmp_path):
    command = [sys.executable, "-m", "gluon_effnets", "info", "none_of_these"]
    import os

    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "GLUON_EFFNETS_TRACE": "1"})
    assert done.returncode == 1 and "Traceback" in done.stderr and "unknown model" in done.stderr.splitlines()[-4]


@pytest.fixture
def evil(folder, monkeypatch):
    """The mark of a module that a description names as its model, and that description."""
    mark = folder / "ran"
    (folder / "evil_of_stranger.py").write_text(f"open({str(mark)!r}, 'w').close()\n\ndef net(**options): ...\n")
    monkeypatch.syspath_prepend(str(folder))
    return mark, changed(folder / "onnx.json", model="evil_of_stranger:net")


def commands_of(about, folder):
    photo = folder / "val" / "ant" / "0.png"
    for name in ("ant", "bee", "cow"):
        for number in range(2):
            path = folder / "val" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((40, 40, 3), 20 * number, np.uint8))
    data = ["--set", "data.image_size=32", "--set", "data.batch_size=2"]
    yield ["card", str(about)]
    yield ["predict", str(about), str(photo)]
    yield ["validate", str(about), "--data", f"folder:{folder}", *data]
    yield ["validate", str(about), "--data", f"folder:{folder}", *data, "--format", "json", "--per-class"]


def test_the_model_of_a_description_is_never_imported(evil, folder, capsys):
    mark, about = evil
    for command in commands_of(about, folder):
        # Its files are those of the network that was exported, and answer.
        assert main(command) == 0, (command, capsys.readouterr().err)
        assert not mark.exists(), command


def test_weights_and_checkpoints_do_not_import_their_model_either(folder):
    mark = folder / "ran"
    (folder / "evil_of_weights.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    net = get_model("idle_tiny", classes=3)
    initialize_like_trained(net)
    identity = {**net.identity, "model": "evil_of_weights:net"}
    with pytest.raises(ValueError, match="not known here"):
        load_stored("evil_of_weights:net", Stored({}, identity), folder)
    assert not mark.exists()


def test_constructor_options_of_a_description_load_nothing(folder, capsys):
    """Only options of the network, not those of get_model, which would read a file."""
    about = changed(folder / "onnx.json", options={"pretrained": str(folder / "plain-0000.params"), "root": "/"})
    assert main(["card", str(about)]) == 0
    assert "parameters" not in capsys.readouterr().out
