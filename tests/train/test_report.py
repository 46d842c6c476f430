"""What a finished run leaves, also where MXNet cannot fuse its network."""

import json
from types import SimpleNamespace

import pytest
from misfused import Misfused

from gluon_effnets.train.config import Recipe
from gluon_effnets.train.data import DataSettings
from gluon_effnets.train.report import RESULT, write_report

pytestmark = pytest.mark.fast


def test_a_network_that_mxnet_cannot_fuse_gets_its_report(tmp_path, capsys):
    log = [
        {"kind": "train", "epoch": 1, "loss": 1.0, "lr": 0.1},
        {"kind": "eval", "epoch": 1, "loss": 1.0, "top1": 0.5},
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    state = SimpleNamespace(
        net=Misfused(), out=tmp_path, num_params=1, update=1, data=SimpleNamespace(num_val=2), scores={"top1": 0.5}
    )
    recipe = Recipe(model="misfused", data=DataSettings(source="synthetic", image_size=32))
    write_report(state, recipe)
    result = json.loads((tmp_path / RESULT).read_text())
    assert result["weights"] == "last"
    assert result["latency_ms"].keys() == {"plain"} and result["fusion_refused"].startswith("fused fails: ")
    assert " ms (minimum of 20); fused fails: MXNetError: " in capsys.readouterr().out
