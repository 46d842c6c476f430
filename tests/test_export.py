"""Exported files give the network's answers, in every way of loading them."""

import json

import mxnet as mx
import numpy as np
import pytest
from test_models import KINDS

from gluon_effnets import get_model, list_models, model_info
from gluon_effnets.deploy import ExportError, export, load_exported, measure_latency
from gluon_effnets.deploy.idle_forms import FORMS, compare_forms, forms_table

# Of the networks for CIFAR, which differ only in their depth, one of every kind: fusing the deep ones takes long.
NAMES = [name for name in list_models() if model_info(name).input_size == 224 or name in sum(KINDS.values(), [])]
HE = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)


def initialized(name, **options):
    mx.random.seed(0)
    net = get_model(name, **options)
    net.initialize(HE)
    return net


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name, tmp_path):
    net = initialized(name, classes=6)
    files = export(net, tmp_path / "sub" / name, image_size=64)
    assert files.symbol.name == f"{name}-symbol.json" and files.params.name == f"{name}-0000.params"
    assert files.difference < 1e-5
    x = mx.nd.array(np.random.RandomState(1).standard_normal((3, 3, 96, 96)))  # another size and batch
    expected = net(x).asnumpy()
    block = load_exported(files.symbol, files.params)
    np.testing.assert_allclose(block(x).asnumpy(), expected, atol=1e-5 * np.abs(expected).max())
    block.optimize_for(x, backend="MKLDNN", static_alloc=True, static_shape=True)
    # Fusion changes the order of additions, and untrained networks are ill-conditioned.
    np.testing.assert_allclose(block(x).asnumpy(), expected, atol=1e-3 * np.abs(expected).max())
    assert json.loads(files.symbol.read_text())["nodes"]
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == sorted(p.name for p in files[:2])


def test_exporting_leaves_a_hybridized_network_trainable(tmp_path):
    net = initialized("idle_tiny", classes=3)
    net.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.ones((2, 3, 32, 32))
    net(x)
    export(net, tmp_path / "m", image_size=32)
    measure_latency(net, 32, repeats=1)
    with mx.autograd.record():
        net(x)[:, 0].sum().backward()
    assert net.stages[0][0].conv.weight.grad().abs().sum().asscalar() > 0


def test_a_wrong_graph_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    net = initialized("idle_tiny", classes=3)
    monkeypatch.setattr("gluon_effnets.deploy.symbol_files.load_exported", lambda *files: lambda x: net(x) * 1.01)
    with pytest.raises(ExportError, match="differs from the network by"):
        export(net, tmp_path / "m", image_size=32)
    assert not list(tmp_path.iterdir())


def test_latency_is_measured_in_both_forms():
    latency = measure_latency(initialized("idle_tiny"), 32, repeats=3)
    assert set(latency) == {"plain", "fused"}
    assert all(0 < value.minimum <= value.median for value in latency.values())


@pytest.mark.slow
def test_forms_of_the_idle_block_are_compared():
    rows = compare_forms("idle_mbv3_small", "mobilenet_v3_small", repeats=1)
    assert [row.form for row in rows] == ["mobilenet_v3_small", *FORMS]
    assert all(row.difference < 1e-5 for row in rows[1:])
    assert [row.train is None for row in rows] == [False, True, False, True, False]
    assert "fails" in forms_table(rows)
