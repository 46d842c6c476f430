"""Where the time goes: parts sum up, nothing beats the lower bound, layout changes are seen, and files hold it all."""

from __future__ import annotations

import json

import mxnet as mx
import pytest
from mxnet.gluon import nn

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks.profile import run as profiling
from gluon_effnets.benchmarks.profile.lower_bound import Layer, Machine, lower_bounds, measure_machine, network_layers
from gluon_effnets.benchmarks.profile.run import PROFILED_RUNTIMES, Variant, deployed, profile
from gluon_effnets.benchmarks.profile.tables import detail_tables, plot_profiles, profile_row, summary_table
from gluon_effnets.complexity import layer_costs
from gluon_effnets.deploy.graph.inference import StaticGraph, inference_graph

MACHINE = Machine({"one": 1e9, "other": 2e9}, {1 << 17: 4e9, 1 << 19: 3e9, 1 << 21: 1e9})


def tiny_net():
    """The smallest network with all that MobileNets consist of."""
    return deployed(Variant("mobilenet_v3_small"), classes=10)


def layers_of(net, size=64, batch=1):
    arrays = {name: param.data() for name, param in net.collect_params().items()}
    return network_layers(StaticGraph(inference_graph(net), arrays), (batch, 3, size, size))


@pytest.fixture(scope="module", params=PROFILED_RUNTIMES)
def measured(request):
    machine = measure_machine(3)
    return profile(tiny_net(), machine, request.param, 64, repeats=3, name="tiny")


def test_the_parts_are_the_whole(measured):
    for parts in (measured.kinds, measured.sides):
        assert sum(share.milliseconds for share in parts.values()) == pytest.approx(measured.profiled)
        assert sum(share.lower_bound for share in parts.values()) == pytest.approx(measured.lower_bound)
        assert sum(share.madds for share in parts.values()) == sum(c.madds for c in layer_costs(tiny_net(), 64))
    inside = sum(event.milliseconds for event in measured.events)
    assert inside == pytest.approx(measured.profiled - list(measured.kinds.values())[-1].milliseconds)


def test_every_convolution_has_its_kind(measured):
    expected = {"1x1": 22, "depthwise": 11, "first convolution": 1}
    assert {kind: measured.kinds[kind].operators for kind in expected} == expected
    assert measured.kinds["squeeze-and-excite"].operators >= 9 * 2
    assert "other" not in measured.kinds and "k x k" not in measured.kinds


def test_lower_bound_is_below(measured):
    assert 0 < measured.lower_bound < measured.minimum <= measured.median


def test_reorders_are_counted(measured):
    names = [event for event in measured.events if event.op.lower().startswith("reorder")]
    assert measured.reorders.operators == len(names) > 9  # at least around squeeze-and-excitation
    assert measured.reorders.milliseconds == pytest.approx(sum(event.milliseconds for event in names))


def test_fusions_and_types(measured):
    expected = {"onnxruntime": {"HardSwish", "Relu", "sum"}, "mxnet": set(), "mxnet-fused": {"eltwise_relu", "sum"}}
    assert measured.fused.keys() >= expected[measured.runtime]
    of_convolutions = {"onnxruntime": "Conv", "mxnet": "Convolution", "mxnet-fused": "_sg_mkldnn_conv"}
    assert measured.operators[of_convolutions[measured.runtime]].milliseconds > 0


def test_tables_and_files(measured, tmp_path):
    row = json.loads(json.dumps(profile_row(measured)))
    line = summary_table([row]).splitlines()[-1]
    shares = [float(cell) for cell in line.split("|")[8:-2] if cell.strip()]
    assert line.startswith(f"| tiny | {measured.runtime} |") and sum(shares) == pytest.approx(100, abs=6)
    assert line.split("|")[-2].strip() == str(measured.reorders.operators)
    text = detail_tables(measured)
    assert "| depthwise | 11 |" in text and "| 32 high |" in text
    plot_profiles([measured], tmp_path / "bars.png")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_kinds_and_bytes_of_layers():
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(
            nn.Conv2D(8, 3, padding=1, in_channels=3, use_bias=False),
            nn.Conv2D(8, 3, padding=1, groups=8, in_channels=8, use_bias=False),
            nn.Conv2D(16, 1, groups=2, in_channels=8, use_bias=False, activation="relu"),
            nn.Conv2D(4, 5, in_channels=16, use_bias=False),
            nn.GlobalAvgPool2D(),
            nn.Conv2D(6, 1, in_channels=4, use_bias=False),
        )
    net.initialize()
    layers = layers_of(net, 8, batch=2)
    assert [layer.kind for layer in layers] == [
        "first convolution", "depthwise", "grouped", "elementwise", "k x k", "pooling", "fully connected"
    ]  # fmt: skip
    first = layers[0]
    assert (first.side, first.madds) == (8, 2 * 64 * 8 * 27)
    assert first.map_bytes == 4 * 2 * 64 * (3 + 8) and first.weight_bytes == 4 * 8 * 27
    assert layers[3].map_bytes == 0 and layers[3].behind == layers[2].name


def test_squeeze_and_excitation_is_one_kind():
    layers = layers_of(get_initialized("mobilenet_v3_small"))
    excite = [layer for layer in layers if layer.kind == "squeeze-and-excite"]
    assert sum(layer.name.endswith("broadcast_mul0") for layer in excite) == 9
    assert {layer.side for layer in excite if layer.madds} == {1}
    assert [layer.kind for layer in layers if layer.kind == "fully connected"] == ["fully connected"] * 2


def get_initialized(name):
    net = get_model(name)
    net.initialize(mx.init.Xavier())
    return net


def test_lower_bound_of_a_layer():
    by_products = Layer("a", "1x1", 7, madds=4_000_000, map_bytes=1000, weight_bytes=1000)
    by_bytes = Layer("b", "depthwise", 7, madds=1000, map_bytes=1 << 20)
    assert lower_bounds([by_products, by_bytes], MACHINE) == [2e-3, (1 << 20) / 3e9]
    weights = Layer("c", "fully connected", 1, madds=1000, weight_bytes=1 << 22)
    assert lower_bounds([weights], MACHINE) == [(1 << 22) / 1e9]
    assert [MACHINE.bandwidth(size) for size in (0, 1 << 18, 1 << 19, 1 << 30)] == [4e9, 4e9, 3e9, 1e9]


def test_disturbed_runs_do_not_count():
    def run(*times):
        return [profiling.Event("n", "op", "1x1", 7, t) for t in times]

    assert [event.milliseconds for event in profiling._fastest([run(1, 9), run(5, 2)])] == [1, 2]


def test_command(tmp_path, capsys):
    file, picture = tmp_path / "p.json", tmp_path / "p.png"
    arguments = [
        "mobilenet_v3_small",
        "--image-size",
        "32",
        "--repeats",
        "2",
        "--json",
        str(file),
        "--plot",
        str(picture),
    ]
    assert main(["benchmark", "profile", *arguments]) == 0
    out = capsys.readouterr().out
    assert "### mobilenet_v3_small, onnxruntime, 1 x 3 x 32 x 32" in out and "bandwidth in" in out
    content = json.loads(file.read_text())
    [row] = content["profiles"]
    assert row["shape"] == [1, 3, 32, 32] and len(row["events"]) > 60 and picture.exists()
    assert set(content) == {"conditions", "repeats", "machine", "profiles"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a network"),
        (["mobilenet_v3_smal"], "unknown model"),
        (["mobilenet_v3_small", "--width", "1"], "has no widths"),
        (["mobilenet_v3_small", "--aligned"], "has no aligned form"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert main(["benchmark", "profile", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_without_onnxruntime(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["benchmark", "profile", "mobilenet_v3_small", "--image-size", "32"]) == 1
    assert 'pip install "gluon_effnets[onnx]"' in capsys.readouterr().err


def test_unknown_runtime():
    with pytest.raises(ValueError, match="choose one of onnxruntime"):
        profile(tiny_net(), MACHINE, "tvm", 32)
