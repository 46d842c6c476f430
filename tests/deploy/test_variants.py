"""Networks that MXNet fuses wrongly run plain, and say why."""

import json

import mxnet as mx
import numpy as np
import pytest
from misfused import Misfused

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.commands import export as export_command
from gluon_effnets.deploy import export, measure_latency, open_exported
from gluon_effnets.deploy.to_mxnet import variants

pytestmark = pytest.mark.fast

REASON = "fused fails: MXNetError: Error in operator "


@pytest.fixture
def tiny():
    net = get_model("idle_tiny", classes=3)
    mx.random.seed(0)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    return net


def test_the_fault_is_still_there():
    """With an MXNet that fuses this network rightly, the tests below would check nothing."""
    x = mx.nd.random.normal(shape=(1, 3, 32, 32))
    with pytest.raises(mx.base.MXNetError, match="Shape inconsistent"):
        variants.graph_blocks(Misfused(), x)["fused"](x).wait_to_read()


def test_the_export_keeps_the_reason(tmp_path):
    net = Misfused()
    written = export(net, tmp_path / "net", 32)
    content = json.loads(written.description.read_text())
    assert content["fused"] is False and content["milliseconds"].keys() == {"plain"}
    assert content["fusion_refused"].startswith(REASON) and "\n" not in content["fusion_refused"]
    exported = open_exported(written.description)
    speed = exported.description.speed
    assert content["fusion_refused"] in speed and "predict runs it plain" in speed
    x = np.random.RandomState(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    expected = net(mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(exported(x), expected, atol=1e-5 * np.abs(expected).max())


def test_the_command_shows_the_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export_command, "get_model", lambda name, **options: Misfused())
    assert main(["export", "misfused", "w.params", str(tmp_path / "net"), "--image-size", "32"]) == 0
    assert f"({REASON}" in capsys.readouterr().out


def test_a_network_that_is_fused_rightly_has_no_reason(tiny, tmp_path):
    """Versions without this key could not read the description."""
    assert "fusion_refused" not in json.loads(export(tiny, tmp_path / "net", 32).description.read_text())
    assert variants.time_variants(tiny, 32, repeats=1).fusion_refused is None


def test_the_latency_is_that_of_the_plain_variant():
    latency, refused = variants.time_variants(Misfused(), 32, repeats=2)
    assert latency.keys() == measure_latency(Misfused(), 32, repeats=1).keys() == {"plain"}
    assert refused.startswith(REASON)


def test_the_latency_of_a_wrong_fused_graph_is_not_given(tiny, monkeypatch):
    def wrong(net, x):
        block = variants.inference_copy(net)
        weight = block.collect_params()[net.output.weight.name]
        weight.set_data(weight.data() * 1.01)
        return block

    monkeypatch.setattr(variants, "_fused", wrong)
    latency, refused = variants.time_variants(tiny, 32, repeats=1)
    assert latency.keys() == {"plain"} and refused.startswith("fused gives other logits, off by ")


class Misrouted:
    """Loads a graph that MXNet fuses wrongly: it fails, or gives other numbers."""

    def __init__(self, error=None, factor=1.0):
        self.error, self.factor, self.loaded = error, factor, []

    def __call__(self, variant):
        self.loaded.append(variant)

        def run(x):
            if variant == "fused" and self.error:
                raise mx.base.MXNetError(self.error)
            return [x * (self.factor if variant == "fused" else 1), x.mean(axis=1)]

        return run


@pytest.mark.parametrize(
    "load, reason", [(Misrouted("Shape inconsistent"), "fused fails: Shape"), (Misrouted(factor=1.01), "off by")]
)
def test_a_routed_graph_runs_plain_where_fusion_is_wrong(load, reason):
    x = mx.nd.random.normal(shape=(2, 4))
    run = variants.fused_where_right(load)
    with pytest.warns(UserWarning, match=f"MXNet's plain operators: fused .*{reason}|{reason}"):
        np.testing.assert_array_equal(run(x)[0].asnumpy(), x.asnumpy())
    run(x)
    assert sorted(load.loaded) == ["fused", "plain"], "the first call alone decides"


def test_a_routed_graph_runs_fused_where_that_is_right():
    load = Misrouted(factor=1 + 1e-6)
    x = mx.nd.random.normal(shape=(2, 4))
    run = variants.fused_where_right(load)
    run(x)
    np.testing.assert_array_equal(run(x)[0].asnumpy(), (x * (1 + 1e-6)).asnumpy())


def test_without_onednn_the_plain_variant_alone_is_measured(tiny, monkeypatch):
    monkeypatch.setattr(mx.runtime.Features, "is_enabled", lambda self, name: False)
    latency, refused = variants.time_variants(tiny, 32, repeats=1)
    assert latency.keys() == {"plain"} and refused == "this MXNet has no oneDNN"
