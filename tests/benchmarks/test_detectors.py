"""benchmark detectors: the same detector by two exporters, with the same answers, in every form."""

import json

import pytest

from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks.detectors import (
    FORMS,
    PEER,
    _check_equal,
    _torchvisions_files,
    detectors_table,
    measure_detectors,
)
from gluon_effnets.detection import get_detector

SMALL = "ssdlite320_mobilenext_x0_35"


@pytest.fixture(scope="module")
def result():
    pytest.importorskip("torch")
    return measure_detectors([PEER, SMALL], classes=3, pairs=100, repeats=1)


def test_all_forms_are_timed(result):
    rows = [(row["detector"], row["exporter"], row["form"]) for row in result["rows"]]
    by = [(PEER, "gluon_effnets"), (PEER, "torch.onnx"), (SMALL, "gluon_effnets")]
    assert rows == [(*pair, form) for pair in by for form in FORMS]
    assert all(0 < row["minimum"] <= row["median"] and 90 <= row["pairs"] <= 110 for row in result["rows"])
    assert [(lead["exporter"], lead["form"]) for lead in result["against"]] == [("torch.onnx", form) for form in FORMS]
    assert {"onnxruntime", "torch"} <= result["conditions"]["versions"].keys() and not result["left_out"]


def test_the_table(result):
    table = detectors_table(json.loads(json.dumps(result)))
    lines = table.splitlines()
    assert [line.split(" | ")[1] for line in lines[2:5]] == ["gluon_effnets", "torch.onnx", "gluon_effnets"]
    assert "3 classes, 1 thread(s)" in table
    # One repetition has no interval, and so no lead.
    assert lines[-1] == f"- {PEER}, detections: ours unknown (1 repetition) times as fast as torch.onnx."


def test_other_answers_are_no_comparison():
    import numpy as np

    boxes, scores = np.zeros((1, 5, 4)), np.array([[0.9, 0.8, 0.7, 0.6, -1]])
    _check_equal([boxes, scores], [boxes[0, :4], scores[0, :4], None], "detections")
    for theirs in (scores[0, :3], scores[0, :4] / 2):
        with pytest.raises(ValueError, match="structures differ"):
            _check_equal([boxes, scores], [boxes[0, :4], theirs, None], "detections")
    with pytest.raises(ValueError, match="structures differ"):
        _check_equal([boxes, scores], [boxes + 1, scores], "heads")


def test_the_command(tmp_path, capsys):
    path = tmp_path / "times.json"
    words = ["benchmark", "detectors", SMALL, "--classes", "2", "--pairs", "50", "--repeats", "1", "--json", str(path)]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("| detector |")
    assert [row["form"] for row in json.loads(path.read_text())["rows"]] == list(FORMS)


def test_an_interpreter_without_torchvision_is_one_sentence(tmp_path):
    net = get_detector(PEER, 2)
    net.initialize()
    python = tmp_path / "python"
    for program, told in {"exit 1": "detector: no message", "echo no torch >&2; exit 1": "detector: no torch"}.items():
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(0o755)
        with pytest.raises(ValueError, match=f"did not export torchvision's {told}"):
            _torchvisions_files(net, str(python), tmp_path / told)
    with pytest.raises(ValueError, match="cannot be started"):
        _torchvisions_files(net, str(tmp_path / "nothing"), tmp_path / "other")
