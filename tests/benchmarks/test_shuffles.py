"""What channel shuffles cost: equal networks with and without them, in every runtime that is here."""

from __future__ import annotations

import json

import mxnet as mx
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks import shuffles
from gluon_effnets.timing import Speedup


@pytest.fixture(autouse=True)
def small(monkeypatch):
    alone = ({"carry_idle": False}, {"carry_idle": False, "shuffle": True})
    monkeypatch.setitem(shuffles.CASES, "idle_per_block", ("idle_mbv3_small_maximum", *alone))


def test_networks_differ_in_their_shuffles_alone():
    rows = shuffles.compare_shuffles(("idle_per_block",), image_size=64, repeats=1)
    assert {"MXNet, plain", "ONNX Runtime"} <= {row.runtime for row in rows}
    assert all(0 < row.without <= row.median_without and 0 < row.shuffled <= row.median_shuffled for row in rows)
    assert {row.network for row in rows} == {"idle_mbv3_small_maximum"} and rows[0].madds == rows[1].madds > 1e6


@pytest.mark.fast
@pytest.mark.parametrize("case", shuffles.CASES)
def test_one_of_two_networks_moves_channels(case):
    name, *both = shuffles.CASES[case]
    graphs = [json.loads(get_model(name, **options)(mx.sym.var("data")).tojson()) for options in both]
    moved = [sum(node["op"] in ("transpose", "SwapAxis", "swapaxes") for node in graph["nodes"]) for graph in graphs]
    assert moved[0] == 0 < moved[1]


def test_command_and_mistakes(capsys, monkeypatch):
    times = (10.0, 11.0, 12.0, 12.6, 165_000_000, Speedup(0.95, 0.9, 1.05, 20))
    rows = [shuffles.ShuffleRow("MXNet, plain", "idle", "idle_mbv3_maximum", *times)]
    monkeypatch.setattr(shuffles, "compare_shuffles", lambda cases, size, repeats, clock: rows)
    assert main(["benchmark", "shuffle", "--networks", "idle", "--image-size", "64", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "+10.0%" in out and "+5.0%" in out and "165.0" in out and "  no difference (0.90 to 1.05)  " in out
    assert "1 repetitions in turn" in out
    assert main(["benchmark", "shuffle", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["more (median)"] == pytest.approx(0.05)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="mobilenet to compare; choose from idle, idle_per_block, shufflenet"):
        shuffles.compare_shuffles(("mobilenet",))
