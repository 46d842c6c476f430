"""What a finished run leaves, also where MXNet cannot fuse its network."""

import dataclasses
import json

import pytest
from misfused import Misfused

from gluon_effnets.train.report import RESULT, write_report

pytestmark = pytest.mark.fast


def test_a_network_that_mxnet_cannot_fuse_gets_its_report(start, capsys):
    run = start("data.image_size=32")
    log = [
        {"kind": "train", "epoch": 1, "loss": 1.0, "lr": 0.1},
        {"kind": "eval", "epoch": 1, "loss": 1.0, "top1": 0.5},
    ]
    (run.state.out / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    run.state.net, run.state.scores = Misfused(), {"top1": 0.5}
    write_report(run.state, dataclasses.replace(run.recipe, model="misfused"))
    result = json.loads((run.state.out / RESULT).read_text())
    assert result["weights"] == "last"
    assert result["latency_ms"].keys() == {"plain"} and result["fusion_refused"].startswith("fused fails: ")
    assert " ms (minimum of 20); fused fails: MXNetError: " in capsys.readouterr().out
