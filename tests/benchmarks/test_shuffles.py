"""What channel shuffles cost: equal networks with and without them, in every runtime that is here."""

from __future__ import annotations

import json

import pytest

from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks import shuffles


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(
        shuffles.CASES,
        "idle",
        ("idle_mbv3_small_maximum", {"carry_idle": False}, {"carry_idle": False, "shuffle": True}),
    )
    monkeypatch.setitem(shuffles.CASES, "shufflenet", ("shufflenet_v1_g3_x0_25", {"shuffle": "none"}, {}))


def test_networks_differ_in_their_shuffles_alone():
    rows = shuffles.compare_shuffles(image_size=64, repeats=1)
    runtimes = {row.runtime for row in rows}
    assert {"MXNet, plain", "ONNX Runtime"} <= runtimes and len(rows) == 2 * len(runtimes)
    assert all(0 < row.without <= row.median_without and 0 < row.shuffled <= row.median_shuffled for row in rows)
    assert len({row.madds for row in rows}) == 2
    name, without, shuffled = shuffles.CASES["shufflenet"]
    graphs = [
        json.loads(shuffles.get_model(name, **o)(shuffles.mx.sym.var("data")).tojson()) for o in (without, shuffled)
    ]
    moved = [sum(node["op"] in ("transpose", "SwapAxis", "swapaxes") for node in graph["nodes"]) for graph in graphs]
    assert moved[0] == 0 < moved[1]


def test_command_and_mistakes(capsys, monkeypatch):
    rows = [shuffles.ShuffleRow("MXNet, plain", "idle", 10.0, 11.0, 12.0, 12.6, 165_000_000)]
    monkeypatch.setattr(shuffles, "compare_shuffles", lambda cases, size, repeats, clock: rows)
    assert main(["benchmark", "shuffle", "--networks", "idle", "--image-size", "64", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "+10.0%" in out and "+5.0%" in out and "165.0" in out and "1 repetitions in turn" in out
    assert main(["benchmark", "shuffle", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["more (median)"] == pytest.approx(0.05)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="mobilenet to compare; choose from idle, shufflenet"):
        shuffles.compare_shuffles(("mobilenet",))
