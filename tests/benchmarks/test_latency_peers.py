"""Our networks beside PyTorch's: equal networks, files of its exporter, and comparisons with their intervals."""

import json
import sys

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks.latency import LATENCY_RUNTIMES, Settings, add_run, measure, measured_tables
from gluon_effnets.benchmarks.latency.comparisons import compare, comparisons_table
from gluon_effnets.benchmarks.latency.networks import Network

SMALL = ["benchmark", "latency", "idle_tiny", "--image-size", "32", "--repeats", "2"]


def test_torch_networks_are_equal_ones_whoever_writes_them():
    pytest.importorskip("torch")
    nets = {name: get_model(name) for name in ("shufflenet_v2_x0_5", "idle_tiny", "plain_tiny")}
    names = ["torch", "torch-channels-last", "torch-jit"]
    result = measure(nets, Settings(runtimes=["mxnet", *names], image_size=(32, 32), repeats=1))
    for model in ("shufflenet_v2_x0_5", "idle_tiny"):
        assert [row["runtime"] for row in result["rows"] if row["model"] == model] == ["mxnet", *names]
    # It is neither of torchvision nor of the blocks that are written here.
    [line] = result["left_out"]
    reason = "neither in torchvision nor in timm, and no PyTorch beside PlainNet: only networks of"
    assert line.startswith(f"left out: {', '.join(names)} of plain_tiny: {reason}")


def test_a_library_with_another_network_gives_way_to_the_one_written_here(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from gluon_effnets.benchmarks.latency import in_torch
    from gluon_effnets.deploy import initialize_like_trained

    net = get_model("idle_tiny")
    initialize_like_trained(net)
    job = Network("idle_tiny", net, (32, 32), tmp_path).request(LATENCY_RUNTIMES["torch"], 1, "auto")
    (tmp_path / "library_of_others.py").write_text(
        "import torch\n\n\nclass models:\n    def make():\n        return torch.nn.Conv2d(3, 1, 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for package in ("nowhere", "library_of_others"):
        given = {**json.loads(json.dumps(job)), "builder": (package, "make", {})}
        call, size = in_torch.build(given, 1)
        assert call().shape == (1, 1000) and size > 4 * job["params"]
    with pytest.raises(ValueError, match="the network written in PyTorch is another network: .* there, 7 and "):
        in_torch.build({**job, "params": 7}, 1)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    "name", ["shufflenet_v1_g3_x0_25", "idle_tiny", "mobilenext_x0_35", "condensenet_v2_tiny", "ds_mobilenet_tiny"]
)
def test_the_counterpart_has_our_costs_and_logits(name):
    torch = pytest.importorskip("torch")
    from gluon_effnets.benchmarks.latency.in_torch import _cost
    from gluon_effnets.benchmarks.torch_reference import with_weights
    from gluon_effnets.complexity import count
    from gluon_effnets.deploy import initialize_like_trained
    from gluon_effnets.models.condense import condense
    from gluon_effnets.nn import masked_layers

    ours = get_model(name, classes=5)
    initialize_like_trained(ours)
    ours = condense(ours) if masked_layers(ours) else ours
    ours = ours.subnet(2) if hasattr(ours, "subnet") else ours
    x = np.random.RandomState(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    expected = ours(mx.nd.array(x)).asnumpy()
    for authors in (False, True) if name.startswith("condensenet_v2") else (False,):
        twin, cost = with_weights(ours, authors), count(ours, 32)
        assert _cost(twin, torch.zeros(1, 3, 32, 32)) == (cost.params, cost.madds)
        with torch.no_grad():
            seen = twin(torch.from_numpy(x)).numpy()
        assert np.abs(seen - expected).max() < 1e-4 * np.abs(expected).max()


def test_outlines_need_neither_pytorch_nor_more_than_json_holds(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "gluon_effnets.benchmarks.torch_outline", raising=False)
    from gluon_effnets.benchmarks.torch_outline import outline

    given = outline(get_model("shufflenet_v1_g3_x0_25"))
    assert json.loads(json.dumps(given)) == given
    with pytest.raises(ValueError, match="no PyTorch beside CondenseNet"):  # masked, not condensed
        outline(get_model("condensenet_v2_tiny"))
    with pytest.raises(ValueError, match="its authors write no layer otherwise"):
        outline(get_model("idle_tiny"), authors=True)


def test_what_pytorch_cannot_export_is_told_and_files_are_kept(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    (tmp_path / "kept").mkdir()
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no PyTorch here >&2\nexit 3\n")
    python.chmod(0o755)
    command = [*SMALL, "--runtimes", "onnxruntime", "torch-onnx", "--torch-python", str(python)]
    assert main([*command, "--files", str(tmp_path / "kept")]) == 0
    out, err = capsys.readouterr()
    reason = "torch cannot be imported (the torch process ended (exit code 3): no PyTorch here); install it with: "
    assert f"left out: torch-onnx of idle_tiny: {reason}" in err
    [folder] = (tmp_path / "kept").iterdir()
    # What lies there is taken as it is: our file stands in for the one of PyTorch's exporter.
    (folder / "torch-plain-1.onnx").write_bytes((folder / "None-1-onnxruntime.onnx").read_bytes())
    assert main([*command, "--files", str(tmp_path / "kept"), "--json", str(tmp_path / "out.json")]) == 0
    out, err = capsys.readouterr()
    assert "left out" not in err and "| torch-onnx |" in out
    result = json.loads((tmp_path / "out.json").read_text())
    assert [one["place"] for one in result["comparisons"]] == ["ONNX Runtime", "any runtime"]
    assert "files" not in result["conditions"] and str(tmp_path) not in json.dumps(result["conditions"])


def row(model, runtime, ms, batch=1, int8=False, threads=1):
    ms = list(ms) if isinstance(ms, (list, tuple)) else [ms] * 6
    times = {"ms": ms, "minimum_ms": min(ms), "median_ms": float(np.median(ms))}
    return {"model": model, "runtime": runtime, **times, "threads": threads, "batch": batch, "int8": int8}


def test_the_fastest_of_ours_in_float_against_the_fastest_peer_in_the_same_runtime_and_in_any():
    slow = [4.0] * 7 + [40.0]
    rows = [
        row("a", "mxnet-fused", 4.0),
        row("a", "onnxruntime", 2.2),
        row("a", "onnxruntime-aligned", 2.0),
        row("a", "onnxruntime-aligned dense", 2.1),
        row("a", "onnxruntime-int8", 1.0, int8=True),
        row("a", "torch-jit", 9.0),
        row("a", "torch-onnx", 3.0),
        row("a", "torch-onnx-openvino", 1.0),
        row("b", "openvino", slow, batch=32),
        row("b", "torch-onnx-openvino", [4.4] * 7 + [4.0], batch=32),
        row("b", "onnxruntime", 5.0),
    ]
    found = [(one["model"], one["place"], one["ours"], one["other"], one["ratio"]) for one in compare(rows)]
    assert sorted(found) == [
        ("a", "ONNX Runtime", "onnxruntime-aligned", "torch-onnx", pytest.approx(1.5)),
        ("a", "any runtime", "onnxruntime-aligned", "torch-onnx-openvino", pytest.approx(0.5)),
        ("b", "OpenVINO", "openvino", "torch-onnx-openvino", pytest.approx(1.1)),
        ("b", "any runtime", "openvino", "torch-onnx-openvino", pytest.approx(1.1)),
    ]
    lines = comparisons_table(compare(rows)).splitlines()[2:]
    shown = "onnxruntime-aligned | 2.00 | torch-onnx | 3.00 | 1.50 (1.50 to 1.50) |"
    assert f"| a | batch 1, 1 thread | ONNX Runtime | {shown}" in lines
    assert lines[-1].endswith("| 4.00 | torch-onnx-openvino | 4.40 | no difference (0.10 to 1.10) |")
    assert compare([row("b", "mxnet", 1.0)]) == [] and comparisons_table([]) == ""


def test_rows_without_single_repetitions_claim_nothing():
    old = [{**row("a", name, 1.0), "ms": None} for name in ("onnxruntime", "torch-onnx")]
    assert compare(old) == []


def test_networks_are_compared_with_a_baseline(capsys):
    rows = [row("base", "onnxruntime", 2.0), row("a", "onnxruntime", 1.0), row("a", "mxnet", 0.5)]
    found = [(one["model"], one["against"], one["place"], one["ratio"]) for one in compare(rows, "base")]
    assert sorted(found) == [
        ("a", "base", "ONNX Runtime", pytest.approx(2)),
        ("a", "base", "any runtime", pytest.approx(4)),
    ]
    assert "| base, onnxruntime | 2.00 |" in comparisons_table(compare(rows, "base"))
    assert main([*SMALL, "--runtimes", "mxnet", "--baseline", "idle_mbv3"]) == 1
    assert "the baseline 'idle_mbv3' is not among the networks: idle_tiny" in capsys.readouterr().err


def measured_on(kind, rows, date="today"):
    conditions = {
        "processor": "AMD EPYC",
        "processor_kind": kind,
        "processors": 2,
        "image_size": [224, 224],
        "clock": "wall",
        "repeats": 6,
        "versions": {},
        "omp_wait_policy": {"1": "not set"},
        "load_average": [0, 0],
        "date": date,
        "commit": "abc",
    }
    models = {one["model"]: {"madds": 1e6} for one in rows}
    return {"conditions": conditions, "models": models, "rows": rows, "comparisons": compare(rows), "left_out": []}


def test_every_processor_has_a_file_of_its_own_to_which_runs_add_themselves(tmp_path):
    size = {"model_bytes": 1e6, "images_per_s": 1.0}
    rows = [{**row("a", "onnxruntime", 2.0), **size}, {**row("a", "torch-onnx", 3.0), **size}]
    first = add_run(tmp_path, measured_on("amd-25-17-avx512", rows, "monday"))
    assert add_run(tmp_path, measured_on("amd-25-1-avx2", rows)).name == "amd-25-1-avx2.json" != first.name
    again = [{**row("a", "onnxruntime", 2.5), **size}, {**row("b", "onnxruntime", 1.0), **size}]
    assert add_run(tmp_path, measured_on("amd-25-17-avx512", again, "tuesday")) == first
    assert add_run(tmp_path, measured_on(None, rows)).name == "amd-epyc.json"
    measured = [json.loads(path.read_text()) for path in (first, tmp_path / "amd-25-1-avx2.json")]
    assert [len(one["runs"]) for one in measured] == [2, 1]
    text = measured_tables(measured)
    of_first, of_second = text.split("### ")[1:]
    assert of_first.startswith("AMD EPYC (`amd-25-17-avx512`)") and of_second.startswith("AMD EPYC (`amd-25-1-avx2`)")
    assert "| a | 1.0 | onnxruntime | 1.0 | 2.50 (2.50) |" in of_first and "2.00 (2.00)" not in of_first
    assert "monday" in of_first and "tuesday" in of_first and "1.50 (1.50 to 1.50)" in of_first
    assert "2.00 (2.00)" in of_second
    (tmp_path / "amd-epyc.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no measurements by processor: name another folder"):
        add_run(tmp_path, measured_on(None, rows))
