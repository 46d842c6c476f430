"""A mistake on the command line leaves neither files nor folders behind."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.commands.command import _Formatter
from gluon_effnets.deploy import export


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of untrained networks, by their models."""
    folder, files = tmp_path_factory.mktemp("weights"), {}
    for name in ("idle_tiny", "ds_mobilenet_tiny"):
        net = get_model(name, classes=10, stem_stride=1)
        net.initialize()
        files[name] = str(folder / f"{name}.params")
        net.save_parameters(files[name])
    return files


DATA = "--data synthetic:96 --set data.image_size=16"
MISTAKES = [
    ("idle_tiny", "export idle_tinyy W new/x"),
    ("idle_tiny", "export mobilenet_v2_x0_35 W new/x"),
    ("idle_tiny", "export idle_tiny nowhere.params new/x"),
    ("idle_tiny", "export idle_tiny W new/x --option bn_epsilonn=1"),
    ("idle_tiny", "export idle_tiny W new/x --width 3"),
    ("idle_tiny", "export idle_tiny W new/x --aligned"),
    ("idle_tiny", "export idle_tiny W new/x --condense"),
    ("idle_tiny", "export idle_tiny W new/x --routed"),
    ("idle_tiny", "export idle_tiny W new/x --batch 4"),
    ("idle_tiny", "export idle_tiny W new/x --int8 --data synthetik"),
    ("idle_tiny", "export idle_tiny W new/x --int8 --images 2 " + DATA),
    ("idle_tiny", "export idle_tiny W new/x --names nowhere.txt"),
    ("ds_mobilenet_tiny", "export ds_mobilenet_tiny W new/x --width 9"),
    ("ds_mobilenet_tiny", "export ds_mobilenet_tiny W new/x --routed --single-file"),
    ("idle_tiny", "convert --model idle_tinyy W new/x.params"),
    ("idle_tiny", "convert --model idle_tiny nowhere.pth new/x.params"),
    ("idle_tiny", "convert --model idle_tiny W new/x.params --source timmm"),
    ("idle_tiny", "convert --model idle_tiny W new/x.params --condense"),
    ("idle_tiny", "plot reuse idle_tiny W new/x.png"),
    ("idle_tiny", "plot reuse condensenet_v2_a nowhere.params new/x.png"),
    ("idle_tiny", "plot routes idle_tiny W new/x " + DATA),
    ("ds_mobilenet_tiny", "plot routes ds_mobilenet_tiny W new/x --data synthetik"),
    ("ds_mobilenet_tiny", "plot routes ds_mobilenet_tiny W new/x --images 0 " + DATA),
    ("idle_tiny", "tvm nowhere.json --library new/x.so --database new/db"),
    ("idle_tiny", "benchmark latency idle_tinyy --json x.json --plot x.png"),
    ("idle_tiny", "benchmark latency idle_tiny --runtimes mxnett --json x.json"),
    ("idle_tiny", "benchmark profile idle_tinyy --json x.json --plot x.png"),
    ("idle_tiny", "benchmark profile idle_tiny --width 1 --json x.json"),
    ("idle_tiny", "benchmark train idle_tinyy --json x.json"),
    ("idle_tiny", "benchmark data --data synthetik --json x.json"),
    ("idle_tiny", "benchmark condense idle_tinyy"),
    ("idle_tiny", "classes nowhere new/classes.txt"),
    ("idle_tiny", "table nix"),
]


@pytest.mark.parametrize(("model", "line"), MISTAKES, ids=[line for _, line in MISTAKES])
def test_a_mistake_leaves_nothing_behind(weights, tmp_path, monkeypatch, capsys, model, line):
    monkeypatch.chdir(tmp_path)
    try:
        code = main([weights[model] if word == "W" else word for word in line.split()])
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr().err
    assert code not in (0, None) and "error: " in told and "Traceback" not in told
    assert not list(tmp_path.iterdir()), told


def test_names_of_files_do_not_reach_the_terminal_as_orders(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "\x1b[2J").mkdir()
    (tmp_path / "\x1b[2J" / "x.png").write_bytes(b"nothing")
    assert main(["predict", "idle_tiny", weights["idle_tiny"], "\x1b[2J/x.png"]) == 1
    told = capsys.readouterr()
    assert "error: ?[2J/x.png" in told.err and "\x1b" not in told.err + told.out


@pytest.mark.parametrize("command", [["gluon_effnets", "predict"], ["gluon_effnets.runtime"]])
def test_names_of_classes_do_not_either(command, tmp_path):
    net = get_model("idle_tiny", classes=2)
    net.initialize()
    about = export(net, tmp_path / "net", 32, format="onnx").description
    content = {**json.loads(about.read_text()), "names": ["\x1b[2Jant", "bee\n  99.99%  cat"]}
    about.write_text(json.dumps(content))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    words = [sys.executable, "-m", *command, str(about), str(tmp_path / "a.png")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and len(done.stdout.splitlines()) == 3 and "?[2Jant" in done.stdout


def test_lines_of_the_log_are_none_either(capsys):
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "%s is damaged", ("\x1b[2J",), None)
    assert _Formatter("%(levelname)s: %(message)s").format(record) == "WARNING: ?[2J is damaged"
