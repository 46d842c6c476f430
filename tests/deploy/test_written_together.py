"""The files of an export are one unit: what an export that was killed left between two others is never run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from waiting import PATIENCE_S
from workers import environment

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.deploy import export, export_routed, initialize_like_trained, load_routed, open_exported

SIZE = 32
IMAGES = np.random.RandomState(0).standard_normal((8, 3, SIZE, SIZE)).astype(np.float32)


def plain(name="idle_tiny", **options):
    def write(prefix, seed):
        mx.random.seed(seed)
        net = get_model(name, classes=3)
        initialize_like_trained(net)
        export(net, prefix, SIZE, **options)

    return write


def routed(**options):
    def write(prefix, seed):
        mx.random.seed(seed)
        net = get_model("ds_mobilenet_tiny", classes=3)
        net.initialize()
        export_routed(net, prefix, SIZE, **options)

    return write


WRITERS = {
    "mxnet": plain(),
    "onnx": plain(format="onnx"),
    "aligned": plain("shufflenet_v1_g1_x0_25", align=True),
    "int8": plain(int8=[IMAGES]),
    "int8-onnx": plain(int8=[IMAGES], format="onnx"),
    "routed": routed(),
    "routed-onnx": routed(format="onnx"),
    "single-onnx": routed(format="onnx", single_file=True),
}


def opened(path):
    return (load_routed if json.loads(path.read_text())["kind"].count("routed") else open_exported)(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_no_mixture_of_two_exports_opens(kind, tmp_path):
    old, new, mixed = (tmp_path / name for name in ("old", "new", "mixed"))
    for seed, folder in enumerate((old, new)):
        WRITERS[kind](folder / "net", seed)
    names = sorted(path.name for path in old.iterdir())
    # As they are moved, the description last.
    names.sort(key=lambda name: name == "net.json")
    assert sorted(path.name for path in new.iterdir()) == sorted(names)
    for moved in range(len(names) + 1):
        shutil.copytree(old, mixed)
        for name in names[:moved]:
            shutil.copy(new / name, mixed)
        same = all((old / name).read_bytes() == (new / name).read_bytes() for name in names[:moved])
        if same or moved == len(names):
            opened(mixed / "net.json")
        else:
            with pytest.raises(ValueError, match="were not written together, or are cut short; export again") as error:
                opened(mixed / "net.json")
            assert "\n" not in str(error.value)
        shutil.rmtree(mixed)


KILLED_EXPORT = """
import os, signal, sys
from gluon_effnets import get_model
from gluon_effnets.deploy import export, initialize_like_trained
prefix, left, replace = sys.argv[1], int(sys.argv[2]), os.replace
def kill(source, target):
    global left
    if os.path.dirname(str(target)) == os.path.dirname(prefix):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = kill
net = get_model("idle_tiny", classes=3)
initialize_like_trained(net)
export(net, prefix, 32)
"""


@pytest.mark.parametrize(("moved", "is_old"), [(1, False), (2, False), (1, True)])
def test_a_killed_export_is_told_and_the_next_one_cleans_up(moved, is_old, tmp_path, capsys):
    WRITERS["mxnet"](tmp_path / "net", 1)
    description = tmp_path / "net.json"
    if is_old:  # as older versions wrote it, with which any files would open
        content = json.loads(description.read_text())
        del content["sha256"]
        description.write_text(json.dumps(content))
        open_exported(description)
    command = [sys.executable, "-c", KILLED_EXPORT, str(tmp_path / "net"), str(moved)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (tmp_path / "image.png").write_bytes(b"")
    assert main(["predict", str(description), str(tmp_path / "image.png")]) == 1
    told = capsys.readouterr().err
    assert ("no exported network at" if is_old else "were not written together") in told and told.count("\n") == 1
    assert len(os.listdir(tmp_path)) == 5 - is_old  # with the folder in which it was made
    WRITERS["mxnet"](tmp_path / "net", 1)
    open_exported(description)
    assert sorted(os.listdir(tmp_path)) == ["image.png", "net-0000.params", "net-symbol.json", "net.json"]


def test_tvm_refuses_a_mixture_before_it_compiles(tmp_path, capsys):
    for seed in (0, 1):
        plain(format="onnx", batch=1)(tmp_path / str(seed) / "net", seed)
    shutil.copy(tmp_path / "1" / "net.onnx", tmp_path / "0")
    assert main(["tvm", str(tmp_path / "0" / "net.json")]) == 1
    assert "were not written together" in capsys.readouterr().err
