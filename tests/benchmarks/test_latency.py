"""Latency across runtimes: rows, conditions, files, what is missing, and that no process is left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE_S, wait_until

from gluon_effnets import get_model, native
from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks.latency import (
    Settings,
    latency_tables,
    measure,
)
from gluon_effnets.benchmarks.latency.networks import Network, find_jobs
from gluon_effnets.benchmarks.latency.picture import Point, pareto_front
from gluon_effnets.benchmarks.latency.processes import Worker, WorkerError, turn
from gluon_effnets.benchmarks.latency.tables import memory_table

ROOT = Path(__file__).parents[2]
SMALL = ["benchmark", "latency", "idle_tiny", "--image-size", "32", "--repeats", "2"]


def state(pid):
    """The letter of a process in /proc: T if it is stopped; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0].replace("Z", "")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def workers_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"worker.py" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not native.library().is_file(), reason="no compiled operators")
def test_compiled_operators_are_a_runtime(tmp_path, capsys):
    """Of several networks in one worker, which loads the library once."""
    arguments = ["idle_tiny", "mobilenet_v1_x0_25", "--image-size", "32", "--repeats", "1", "--batch", "1", "2"]
    path = tmp_path / "out.json"
    assert main(["benchmark", "latency", *arguments, "--runtimes", "mxnet-compiled", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert len(result["rows"]) == 4 and not result["left_out"]


def test_without_compiled_operators_a_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(native, "load", lambda: False)
    assert main([*SMALL, "--runtimes", "mxnet", "mxnet-compiled"]) == 0
    shown = capsys.readouterr()
    assert "left out: mxnet-compiled" in shown.out + shown.err and "gluon_effnets native" in shown.out + shown.err


def test_rows_conditions_and_files(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    arguments = ["--runtimes", "mxnet", "mxnet-fused", "onnxruntime", "--batch", "1", "2", "--memory"]
    files = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")]
    assert main([*SMALL, *arguments, *files]) == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "out.json").read_text())
    rows, conditions = result["rows"], result["conditions"]
    measured = [(row["runtime"], row["batch"], row["threads"]) for row in rows]
    assert sorted(measured) == sorted((name, n, 1) for name in ("mxnet", "mxnet-fused", "onnxruntime") for n in (1, 2))
    for row in rows:
        assert 0 < row["minimum_ms"] <= row["median_ms"]
        assert row["images_per_s"] == pytest.approx(1e3 * row["batch"] / row["median_ms"])
        # A process with the network has more memory than one that only imported the runtime.
        assert 0 < row["import_bytes"] < row["peak_bytes"] < 2e9
        assert 4 * result["models"]["idle_tiny"]["params"] < row["model_bytes"] < 1e6
    in_mxnet, in_onnx = ([r["import_bytes"] for r in rows if r["runtime"] == name] for name in ("mxnet", "onnxruntime"))
    assert max(in_onnx) < min(in_mxnet)  # ONNX Runtime's process does not hold MXNet, nor count its parent's peak
    assert conditions["versions"]["mxnet"]["mxnet"] == "1.9.1" and "onnxruntime" in conditions["versions"]
    assert conditions["processors"] == os.cpu_count() and len(conditions["load_average"]) == 2
    assert conditions["threads"] == [1] and conditions["processor"] and conditions["date"]
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert latency_tables(result) == out.strip() and "| idle_tiny | " in out and "images/s" in out and "MB (+" in out
    assert not result["left_out"]


def test_aligned_graphs_are_measured_where_there_are_any():
    nets = {name: get_model(name) for name in ("shufflenet_v1_g1_x0_25", "idle_tiny")}
    settings = Settings(runtimes=("mxnet-aligned",), image_size=(32, 32), repeats=1, forms=("auto", "dense"))
    result = measure(nets, settings)
    assert [(row["model"], row["runtime"]) for row in result["rows"]] == [
        ("shufflenet_v1_g1_x0_25", "mxnet-aligned"),
        ("shufflenet_v1_g1_x0_25", "mxnet-aligned dense"),
    ]
    assert result["left_out"] == ["left out: mxnet-aligned, mxnet-aligned dense of idle_tiny: no aligned form"]


def test_a_width_of_a_slimmable_network_is_a_network(tmp_path, capsys):
    names = ["ds_mobilenet_tiny:width=0", "ds_mobilenet_tiny:width=3"]
    file = tmp_path / "out.json"
    assert main([*SMALL[:2], *names, *SMALL[3:], "--runtimes", "mxnet", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    slim, wide = (result["models"][name] for name in names)
    assert slim["madds"] < wide["madds"] and slim["params"] < wide["params"]
    sizes = [row["model_bytes"] for row in result["rows"]]
    assert 4 * slim["params"] < sizes[0] < sizes[1] < 6 * wide["params"], "each has the weights of its width alone"
    for name, message in (
        ("idle_tiny:width=1", "idle_tiny is not slimmable"),
        ("ds_mobilenet_tiny:width=99", "choose 0 to"),
    ):
        assert main([*SMALL[:2], name, *SMALL[3:]]) == 1
        assert message in capsys.readouterr().err


def test_networks_with_masks_are_measured_as_they_are_deployed(tmp_path):
    from gluon_effnets.deploy import initialize_like_trained

    net = get_model("condensenet_tiny")
    initialize_like_trained(net)
    network = Network("condensenet_tiny", net, (32, 32), tmp_path)
    jobs, left_out = find_jobs([network], ["mxnet", "mxnet-fused", "mxnet-aligned"], [1], ["auto"])
    assert [job.request["form"] for job in jobs] == ["plain", "fused", "plain"] and not left_out
    assert network.about()["params"] < sum(p.data().size for p in net.collect_params().values())
    assert network.net.definition()["condensed"]


def test_published_accuracy_belongs_to_one_image_size(tmp_path):
    net = get_model("mobilenet_v3_large")
    assert Network("a", net, (224, 224), tmp_path).about()["published_top1"] == 75.2
    about = Network("a", net, (192, 192), tmp_path).about()
    assert about["published_top1"] is None and about["madds"] < 216589760
    assert Network("a", net, (192, 224), tmp_path).about()["madds"] is None


def test_a_missing_runtime_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('none here')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    names = ["mxnet", "onnxruntime", "torch"]
    assert main([*SMALL, "--runtimes", *names, "--torch-python", str(tmp_path / "python")]) == 0
    out, err = capsys.readouterr()
    assert "| mxnet |" in out and "Traceback" not in err
    told = [line for line in err.splitlines() if "left out" in line]
    assert len(told) == 2
    [missing] = [line for line in told if "none here" in line]
    assert "onnxruntime cannot be imported (none here); install it with: " in missing
    assert main([*SMALL, "--runtimes", "onnxruntime"]) == 1
    assert "error: nothing to measure" in capsys.readouterr().err


def test_an_interpreter_that_does_not_exist():
    with pytest.raises(WorkerError, match="/nowhere/python cannot be started: No such file"):
        Worker("torch", 1, "/nowhere/python")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runtimes", "tensorflow"], "unknown runtime 'tensorflow'; choose from mxnet, mxnet-fused"),
        (["--json", "nowhere/out.json"], "no folder for nowhere/out.json"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert main([*SMALL, *arguments]) == 1
    assert message in capsys.readouterr().err


def test_options_belong_to_a_name(capsys):
    names = ["idle_tiny:classes=10", "idle_tiny"]
    assert main([*SMALL[:2], *names, *SMALL[3:], "--runtimes", "mxnet", "--processor-time"]) == 0
    sizes = [line.split("|")[4] for line in capsys.readouterr().out.splitlines() if "| idle_tiny" in line]
    assert len(sizes) == 2 and float(sizes[0]) < float(sizes[1])


def test_only_the_measuring_process_runs():
    with contextlib.closing(Worker("mxnet", 1)) as worker:
        pid = worker._process.pid
        worker.pause()
        assert state(pid) == "T"
        with pytest.raises(WorkerError, match="KeyError|'none'"), turn(worker):
            assert state(pid) != "T"
            worker.ask("time", key="none", clock="wall")
        assert state(pid) == "T"
    assert state(pid) == ""


def test_a_worker_that_dies_is_told():
    with contextlib.closing(Worker("mxnet", 1)) as worker:
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"the mxnet process ended \(SIGKILL\)"):
            worker.ask("memory")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_stays_when_the_parent_ends(how):
    pytest.importorskip("onnxruntime")
    # A shell's background jobs ignore SIGINT, and hand that on.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from gluon_effnets.__main__ import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *SMALL[:-1], "1000000", "--runtimes", "mxnet", "onnxruntime"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        # One runs and one is stopped.
        wait_until(lambda: len(workers_of(parent.pid)) == 2 and "T" in map(state, workers_of(parent.pid)))
        workers = workers_of(parent.pid)
        parent.send_signal(how)
        error = parent.communicate(timeout=PATIENCE_S)[1]
        assert b"Traceback" not in error
        wait_until(lambda: not any(map(state, workers)))
    finally:
        parent.kill()
        parent.wait()


def test_pareto_front():
    points = [Point("slow", 70, 5), Point("best", 75, 4), Point("fast", 60, 1), Point("worse", 59, 2), Point("", 60, 1)]
    assert [(point.top1, point.latency) for point in pareto_front(points)] == [(60, 1), (75, 4)]


def row(model, runtime, ms, batch=1, int8=False, threads=1):
    ms = list(ms) if isinstance(ms, (list, tuple)) else [ms] * 6
    times = {"ms": ms, "minimum_ms": min(ms), "median_ms": float(np.median(ms))}
    return {"model": model, "runtime": runtime, **times, "threads": threads, "batch": batch, "int8": int8}


def remembered(model, runtime, peak, batch=1, threads=1):
    return {**row(model, runtime, 1.0, batch, threads=threads), "import_bytes": 80e6, "peak_bytes": peak}


def test_the_memory_table_has_a_line_per_network_and_batch():
    conditions = {
        "image_size": [32, 64],
        "threads": [2, 1],
        "versions": {"mxnet": {"mxnet": "1.9.1"}},
        "omp_wait_policy": {"2": "ACTIVE"},
        "load_average": [0.5, 0.25],
        "processor": "A CPU",
        "processors": 4,
        "date": "today",
        "commit": None,
    }
    rows = [
        remembered("a", "mxnet", 100e6, threads=2),
        remembered("a", "tvm", 120e6, threads=2),
        remembered("b", "tvm", 130e6, threads=2),
        remembered("a", "mxnet", 140e6, batch=8, threads=2),
        row("a", "mxnet-fused", 3.0),  # of another number of threads, without memory
    ]
    *table, empty, text = memory_table({"rows": rows, "conditions": conditions}).splitlines()
    assert table == [
        "| model | batch | mxnet | tvm |",
        "| --- | --- | --- | --- |",
        "| a | 1 | 100 MB (+20) | 120 MB (+40) |",
        "| b | 1 |  | 130 MB (+50) |",
        "| a | 8 | 140 MB (+60) |  |",
    ]
    assert not empty and text.startswith("Images of 32 x 64; largest resident memory of a process with 2 threads")
    assert "A CPU, 4 processors" in text and text.endswith("mxnet 1.9.1; today, commit unknown.")
