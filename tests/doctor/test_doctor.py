"""The doctor names what is wrong and the line that cures it, whatever it meets; of what is right it says so."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from workers import needs_horovod

from gluon_effnets.__main__ import main
from gluon_effnets.doctor import machine, software, training
from gluon_effnets.doctor.finding import ChildFailed, ask

MXNET = {"mxnet": "1.9.1", "numpy": "1.23.5", "features": ["MKLDNN", "OPENMP", "OPENCV"], "gpus": 0}
GPU = {**MXNET, "features": [*MXNET["features"], "CUDA", "CUDNN"], "gpus": 2}
NATIVE = {"loaded": True, "off": False}
HOROVOD = {"version": "0.28.1", "built": ["gloo"]}


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Make `software` find these answers of MXNet, compiled operators and Horovod, and this nvidia-smi."""

    def make(mxnet=MXNET, native=NATIVE, horovod=HOROVOD, nvidia_smi=None):
        answers = {software._MXNET: mxnet, software._NATIVE: native, software._HOROVOD: horovod}

        def answer(command, *_, **__):
            found = answers[command[1]]
            if isinstance(found, str):
                raise ChildFailed(found)
            return found

        monkeypatch.setattr(software, "ask", answer)
        monkeypatch.setattr(software.importlib.util, "find_spec", lambda name: object())
        monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + "/usr/bin:/bin")
        if nvidia_smi is not None:
            program = tmp_path / "nvidia-smi"
            program.write_text(f"#!/bin/sh\n{nvidia_smi}\n")
            program.chmod(0o755)
        return {finding.subject: finding for finding in software.software()}

    return make


def smi(driver="460.32.03", capability="8.0", count=2):
    return f'printf "%s" "{chr(10).join([f"NVIDIA A100, {driver}, {capability}"] * count)}"'


def test_all_is_well(installed):
    found = installed()
    assert {finding.level for finding in found.values()} == {"fine"}
    assert found["MXNet"].found == "1.9.1 with oneDNN, OpenMP, OpenCV; NumPy 1.23.5"


@pytest.mark.parametrize(
    ("things", "subject", "level", "says", "cure"),
    [
        ({"mxnet": "crashes (SIGILL)"}, "MXNet", "wrong", "its import crashes (SIGILL)", "mxnet==1.9.1"),
        ({"mxnet": "fails: x", "nvidia_smi": smi()}, "MXNet", "wrong", "its import fails: x", "mxnet-cu112==1.9.1"),
        ({"nvidia_smi": smi()}, "MXNet", "wrong", "it does not know GPUs", "mxnet-cu112==1.9.1"),
        ({"mxnet": {**GPU, "gpus": 0}, "nvidia_smi": smi()}, "MXNet", "wrong", "sees no GPU", "CUDA_VISIBLE_DEVICES"),
        ({"mxnet": {**GPU, "gpus": "CUDA: no driver"}}, "MXNet", "wrong", "CUDA: no driver", "nvidia-smi"),
        ({"mxnet": {**MXNET, "mxnet": "2.0.0"}}, "MXNet", "wrong", "2.0.0", "mxnet==1.9.1"),
        (
            {"mxnet": GPU, "nvidia_smi": smi("440.33.01")},
            "GPU driver",
            "wrong",
            "driver 440.33.01",
            "450.80.02 or newer",
        ),
        (
            {"mxnet": GPU, "nvidia_smi": smi(capability="9.0")},
            "GPU driver",
            "note",
            "newer than CUDA",
            "CUDA_CACHE_MAX",
        ),
        ({"mxnet": GPU, "nvidia_smi": "echo broken; exit 9"}, "GPU driver", "wrong", "fails: broken", "driver"),
        ({"mxnet": GPU, "nvidia_smi": smi()}, "Horovod", "wrong", "through main memory", "HOROVOD_GPU_OPERATIONS=NCCL"),
        ({"horovod": {**HOROVOD, "built": []}}, "Horovod", "wrong", "nothing to talk by", "HOROVOD_WITH_MXNET=1"),
        ({"horovod": "fails: no symbol"}, "Horovod", "wrong", "its import fails: no symbol", "HOROVOD_WITH_MXNET=1"),
        ({"native": {"loaded": False, "off": False}}, "compiled operators", "note", "slower", "gluon_effnets native"),
        ({"native": {"loaded": False, "off": True}}, "compiled operators", "note", "switched off", "unset"),
        ({"native": "crashes (SIGFPE)"}, "compiled operators", "wrong", "crashes (SIGFPE)", "native --force"),
    ],
)
def test_what_is_wrong_has_a_cure(installed, things, subject, level, says, cure):
    found = installed(**things)[subject]
    assert found.level == level and says in found.found and cure in found.cure


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashes (SIGSEGV)"),
        ("raise ValueError('a\\x1b[2Jb')", "fails: ValueError: a?[2Jb"),
        ("print('hello')", "says nothing that can be read: hello"),
        ("import time; time.sleep(600)", "gives no answer within 2 s"),
    ],
)
def test_a_child_that_fails_is_told(code, says):
    with pytest.raises(ChildFailed) as error:
        ask(["-c", code], patience_s=2 if "sleep" in code else 60)
    assert str(error.value) == says


@pytest.mark.parametrize(
    ("allowed", "threads", "level", "cure"),
    [
        (4, "4", "fine", ""),
        (4, None, "fine", ""),
        (4, "5", "wrong", "export OMP_NUM_THREADS=4"),
        (1.5, None, "wrong", "export OMP_NUM_THREADS=1"),
        (0.5, "1", "wrong", "export OMP_NUM_THREADS=1"),
    ],
)
def test_threads_and_processors(monkeypatch, allowed, threads, level, cure):
    monkeypatch.setattr(machine, "allowed_processors", lambda: allowed)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    found = next(machine._processors())
    assert (found.level, found.cure) == (level, cure)


@pytest.mark.parametrize(
    ("capability", "forbidden", "level"), [("7.5", "", "fine"), ("8.0", "", "note"), ("8.0", "0", "fine")]
)
def test_tf32(monkeypatch, capability, forbidden, level):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", forbidden)
    assert machine._tf32([{"capability": capability}]).level == level


def test_a_disk_is_measured_and_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_MEGABYTES", 2)
    assert "MB/s" in machine.disk(str(tmp_path)).found and not list(tmp_path.iterdir())
    missing = machine.disk(str(tmp_path / "missing"))
    assert missing.level == "wrong" and "--folder" in missing.cure


def _step(gradients, operators="MXNet's"):
    step = object.__new__(training._Step)
    step.gradients, step.loss, step.images_per_s, step.operators = np.array(gradients), 1.0, 10.0, operators
    return step


@pytest.mark.parametrize(
    ("gradients", "device", "name", "level"),
    [
        ([1.0, 2.0001], "cpu", "compiled operators", "fine"),
        ([1.0, 2.1], "cpu", "compiled operators", "wrong"),
        ([1.0, 2.1], "gpu", "float32 on the GPU", "note"),
        ([1.0, -2.0], "gpu", "float32 on the GPU", "wrong"),
        ([1.0, float("nan")], "gpu", "float16 on the GPU", "wrong"),
    ],
)
def test_gradients_are_compared(gradients, device, name, level):
    most = training._HALF if "16" in name else training._ROUNDING
    assert training._compared(name, _step(gradients), _step([1.0, 2.0]), most, device).level == level


def test_a_real_step_is_its_own_equal():
    one, two = (training._Step("float32", "cpu") for _ in range(2))
    assert one.difference(two) == 0 and one.gradients.size > 1_000_000 and one.images_per_s > 0


def test_threads_that_decode(monkeypatch):
    monkeypatch.setattr(training, "ask", lambda command: {"images_per_s": {"1": 100, "2": 110}[command[-1]]})
    monkeypatch.setattr(training, "allowed_processors", lambda: 2.5)
    [found] = training.decoding()
    assert found.level == "note" and "100 photographs/s with 1 thread(s), 110" in found.found


def test_a_thread_really_decodes():
    assert ask(["-m", training._TRIAL, "decode", "1"])["images_per_s"] > 0


@needs_horovod
@pytest.mark.dist
@pytest.mark.xdist_group("dist")
def test_two_workers_exchange():
    [found] = training.exchange(0)
    assert found.level == "fine" and found.subject == "2 workers", found


def test_one_gpu_has_nobody_to_talk_to():
    assert not list(training.exchange(1))


def test_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")
    assert main(["doctor", "--quick", "--json", str(tmp_path / "found.json")]) == 1
    printed = capsys.readouterr().out
    assert "wrong  processors:" in printed and "       cure: export OMP_NUM_THREADS=" in printed
    assert printed.rstrip().endswith("1 thing(s) wrong")
    rows = json.loads((tmp_path / "found.json").read_text())
    assert {"subject", "level", "found", "cure"} == set(rows[0]) and rows[0]["subject"] == "Python"
    assert main(["doctor", "--quick", "--format", "json"]) == 1
    assert [row["subject"] for row in json.loads(capsys.readouterr().out)] == [row["subject"] for row in rows]
