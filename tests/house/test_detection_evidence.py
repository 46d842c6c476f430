"""The comparison of detectors: what it runs, what it collects, and what its tables say of it."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def module(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "dev" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def evidence():
    return module("detection_evidence")


@pytest.fixture(scope="module")
def tables():
    return module("detection_tables")


def finished(folder, map_, seed=0):
    folder.mkdir(parents=True)
    result = {"madds": 640_000_000, "map": map_, "ap_rbc": map_ + 0.1, "ap_wbc": map_ - 0.1, "images": 72}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "run.json").write_text(json.dumps({"commit": "abc"}))
    lines = [{"kind": "train", "epoch": 1, "loss": 3.0}, {"kind": "eval", "epoch": 1, "map": map_}]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def collected(evidence, folder, scores):
    for (name, seed), map_ in scores.items():
        finished(folder / "runs" / evidence._folder(name, seed), map_)
    evidence.collect(folder / "runs", [0, 1, 2], folder / "results")
    return json.loads((folder / "results" / "trained_detectors.json").read_text())


def test_equal_terms(evidence):
    """Only the detector, and weights where the name says so, differ between the runs of a group."""
    for group in evidence.GROUPS.values():
        for name, run in group.runs.items():
            words = evidence.command(group, run, 1, "DIR", "FILE", "OUT")
            told = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
            assert told[: len(group.settings)] == list(group.settings) and told[-1] == "seed=1"
            assert bool(run.settings) == ("pretrained" in name) and run.model in words
        assert {name for pair in group.pairs for name in pair} <= group.runs.keys()
    assert len(set(evidence.RUNS)) == len(evidence.RUNS)  # folders are named after them


def test_means_intervals_and_differences(evidence, tables, tmp_path):
    scores = {("MobileNetV2", 0): 0.40, ("MobileNetV2", 1): 0.42, ("MobileNetV2", 2): 0.44}
    scores.update({("MobileNeXt", 0): 0.41, ("MobileNeXt", 1): 0.42, ("MobileNeXt", 2): 0.46})
    scores[("DS-MBNet-S", 1)], scores[("MobileNetV1", 1)] = 0.30, 0.28
    content = collected(evidence, tmp_path, scores)
    assert {path.name for path in (tmp_path / "results" / "logs").glob("*.png")} == {
        "bccd.ssdlite.png",
        "bccd.fssd.png",
    }
    table = tables.evidence_table(content, "ssdlite")
    # 4.303 * 2 / sqrt(3) = 4.97; differences 1, 0, 2: mean 1, 4.303 * 1 / sqrt(3) = 2.48.
    assert "| MobileNetV2 | `ssdlite320_mobilenet_v2_x1_0` | 640 M | 0, 1, 2 | 42.00 ± 4.97 |" in table
    assert "| MobileNeXt - MobileNetV2 |  |  | 0, 1, 2 | +1.00 ± 2.48 |" in table
    assert "from -1.48 to +3.48 points of mAP; it holds both no difference and the papers' +0.9" in table
    assert "8 pairs would tell 0.9 points from nothing" in table and "pretrained" not in table
    other = tables.evidence_table(content, "fssd")
    assert "+2.00 (one seed)" in other and "says nothing about the noise" in other and "DS-MBNet-M" not in other
    assert "FSSD at 160 pixels" in other and "duration=18ep" in other


@pytest.mark.parametrize(
    "differences, says",
    [
        ((0.8, 0.9, 1.0), "holds the papers' +0.9, and not 0"),
        ((0.0, 0.1, -0.1), "holds no difference, and not the papers' +0.9"),
        ((5.0, 5.1, 4.9), "holds neither 0 nor the papers' +0.9"),
    ],
)
def test_what_an_interval_says(differences, says, tables):
    assert says in tables._said(tables.Interval.of(differences))


def test_nothing_finished_is_said(evidence, tables, tmp_path):
    content = collected(evidence, tmp_path, {})
    assert content["rows"] == [] and "No run" in tables.evidence_table(content, "fssd")
