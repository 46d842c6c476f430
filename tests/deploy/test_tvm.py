"""ONNX exports compiled and tuned with TVM: the command, its mistakes, and, where TVM is, the answers of its library.

GLUON_EFFNETS_TVM_PYTHON names the interpreter that has TVM, if it is not the one that runs the tests.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from waiting import PATIENCE_S, wait_until

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.deploy import compare, export, initialize_like_trained, open_exported
from gluon_effnets.deploy.to_tvm import compile as tvm_compiler

TVM_PYTHON = os.environ.get("GLUON_EFFNETS_TVM_PYTHON", sys.executable if importlib.util.find_spec("tvm") else None)
needs_tvm = pytest.mark.skipif(TVM_PYTHON is None, reason="needs TVM; GLUON_EFFNETS_TVM_PYTHON names its interpreter")


def written(prefix, name="idle_mbv3_small", size=32, batch=1, **options):
    """The JSON file of an ONNX export."""
    net = get_model(name, classes=5, **options)
    initialize_like_trained(net)
    return export(net, prefix, size, format="onnx", batch=batch).description


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Exports of one network: small.json for one image, any.json for any number, mxnet.json for MXNet."""
    folder = tmp_path_factory.mktemp("exported")
    written(folder / "small")
    written(folder / "any", batch=None)
    net = get_model("idle_mbv3_small", classes=5)
    net.initialize()
    export(net, folder / "mxnet", 32)
    return folder


@pytest.mark.fast
@pytest.mark.parametrize("rounding", [0.0, 1e-6, 5e-5])
def test_libraries_are_judged_by_the_rule_of_all_exports(rounding):
    what = "TVM's library differs"
    for difference in (0.0, 1.9e-5, 2.1e-5, 1.4e-4, 1.6e-4, np.nan, np.inf):
        wanted = compare.refusal(difference, what, compare.ROUNDINGS * rounding)
        assert tvm_compiler.refusal(difference, rounding) == wanted, difference


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.json"], "no exported network at none.json"),
        (["{folder}/small.onnx"], "give the JSON file that export wrote beside it"),
        (["{folder}/mxnet.json"], "TVM compiles float ONNX files for a fixed number of images"),
        (["{folder}/any.json"], "--format onnx --batch 1"),
        (["{folder}/small.json", "--trials", "3"], "trials need a folder that keeps what they find: --database DIR"),
        (["{folder}/small.json", "--trials", "-1"], "the number of trials is -1; it must be at least 0"),
        (["{folder}/small.json", "--tvm-python", "no/python"], "--tvm-python no/python cannot be started"),
    ],
)
def test_mistakes_are_one_message(arguments, message, folder, capfd):
    assert main(["tvm", *(argument.format(folder=folder) for argument in arguments)]) == 1
    out, err = capfd.readouterr()
    assert message in err and "Traceback" not in err and len(err.splitlines()) <= 3
    assert not out and not (folder / "small.so").exists()


@pytest.mark.fast
@pytest.mark.parametrize("content", ["raise ImportError('not here')", "raise OSError('undefined symbol')"])
def test_without_tvm_the_remedy_is_named(content, folder, tmp_path, monkeypatch, capfd):
    (tmp_path / "tvm.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main(["tvm", str(folder / "small.json")]) == 1
    err = capfd.readouterr().err
    assert (
        "TVM cannot be imported" in err and "make tvm" in err and "--tvm-python" in err and len(err.splitlines()) <= 3
    )


@pytest.mark.fast
def test_a_crash_of_tvm_is_one_message(folder, tmp_path, capfd):
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    assert main(["tvm", str(folder / "small.json"), "--tvm-python", str(crashing)]) == 1
    err = capfd.readouterr().err
    assert f"ended by signal {int(signal.SIGSEGV)}" in err and "dev/tvm-requirements.txt" in err


@pytest.mark.fast
def test_the_progress_is_one_line_in_a_terminal_and_few_lines_elsewhere(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, lines in ((Terminal(), 1), (io.StringIO(), 2)):
        monkeypatch.setattr(sys, "stderr", stream)
        with tvm_compiler._progress_line() as show:
            for trial in range(50):
                show(f"trial {trial}")
        text = stream.getvalue()
        assert text.count("\n") == lines and "trial 0" in text and "trial 49" in text


@pytest.mark.fast
def test_a_line_cut_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "records.json"
    for content, whole in ((b"[1]\n[2]\n[3", b"[1]\n[2]\n"), (b"[1]\n", b"[1]\n"), (b"[", b""), (b"", b"")):
        path.write_bytes(content)
        tvm_compiler._drop_cut_line(path)
        assert path.read_bytes() == whole


def run(*arguments):
    """The stand-alone file in the interpreter that has TVM."""
    command = [TVM_PYTHON, tvm_compiler.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def answers(library, data):
    """What the library says, in the interpreter that has TVM."""
    code = (
        "import importlib.util, sys, numpy as np\n"
        "spec = importlib.util.spec_from_file_location('tvm_compiler', sys.argv[1])\n"
        "tvm_compiler = sys.modules['tvm_compiler'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(tvm_compiler)\n"
        "np.save(sys.argv[4], tvm_compiler.tvm_runner(sys.argv[2], trust=True)(np.load(sys.argv[3])))\n"
    )
    given, result = (library.with_suffix(f".{what}.npy") for what in ("in", "out"))
    np.save(str(given), data)
    command = [TVM_PYTHON, "-c", code, tvm_compiler.__file__, library, given, result]
    subprocess.run(command, check=True, timeout=PATIENCE_S)
    return np.load(str(result))


@needs_tvm
def test_compiled_tuned_and_resumed(folder, tmp_path, capfd):
    library, database = tmp_path / "net.so", tmp_path / "database"
    command = ["tvm", str(folder / "small.json"), "--library", str(library), "--tvm-python", TVM_PYTHON]
    assert main([*command, "--trials", "4", "--database", str(database)]) == 0
    out, err = capfd.readouterr()
    assert "4 trials now, 4 in all" in out and "largest difference from ONNX Runtime" in out
    assert "trial 4/4" in err and "ms on one thread" in err
    [records] = database.glob("*/database_tuning_record.json")
    records.write_bytes(records.read_bytes() + b'[3, {"cut": ')
    assert main([*command, "--trials", "2", "--database", str(database)]) == 0
    assert "2 trials now, 6 in all" in capfd.readouterr().out
    data = np.random.RandomState(3).standard_normal((1, 3, 32, 32)).astype(np.float32)
    expected = open_exported(folder / "small.json")(data)
    assert np.abs(answers(library, data) - expected).max() < 1e-4 * expected.std()


@needs_tvm
def test_killing_it_loses_nothing(folder, tmp_path):
    arguments = [folder / "small.onnx", tmp_path / "net.so", "--trials", "200", "--database", tmp_path / "database"]
    process = subprocess.Popen([TVM_PYTHON, tvm_compiler.__file__, *map(str, arguments)], stderr=subprocess.DEVNULL)

    def count():
        records = list((tmp_path / "database").glob("*/database_tuning_record.json"))
        return records[0].read_bytes().count(b"\n") if records else 0

    wait_until(lambda: count() >= 3)
    before = count()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "net.so").exists()
    done = run(*arguments[:2], "--database", tmp_path / "database")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"] >= before


@needs_tvm
def test_another_answer_is_refused_and_the_older_library_stays(folder, tmp_path):
    library, expected = tmp_path / "net.so", tmp_path / "expected.npz"
    library.write_text("older")
    data = np.random.RandomState(4).standard_normal((1, 3, 32, 32)).astype(np.float32)
    logits = open_exported(folder / "small.json")(data)
    np.savez(str(expected), data=data, logits=logits + [[0, 0, 0, 0, 1e-2 * logits.std()]])
    done = run(folder / "small.onnx", library, "--expected", expected)
    assert done.returncode == 1 and "differs by 1.0e-02 of the logits' standard deviation" in done.stderr
    assert library.read_text() == "older" and len(list(tmp_path.iterdir())) == 2


@needs_tvm
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}/any.onnx"], "takes any number of images, but TVM compiles for one"),
        (["{folder}/small.json"], "no ONNX file of this package, or it is cut short"),
        (["{folder}/none.onnx"], "no ONNX file at"),
    ],
)
def test_files_that_cannot_be_compiled(arguments, message, folder, tmp_path):
    done = run(*(argument.format(folder=folder) for argument in arguments), tmp_path / "net.so")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


@needs_tvm
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("shufflenet_v1_g3_x0_5", {}), ("condensenet_v2_a", {}), ("mobilenext_x1_0", {}), ("efficientnet_b0", {})],
)
def test_other_families(name, options, tmp_path):
    about = written(tmp_path / "net", name, 64, batch=2, **options)
    done = run(tmp_path / "net.onnx", tmp_path / "net.so")
    assert done.returncode == 0, done.stderr
    data = mx.nd.random.normal(shape=(2, 3, 64, 64)).asnumpy()
    expected = open_exported(about)(data)
    assert np.abs(answers(tmp_path / "net.so", data) - expected).max() < 1e-4 * expected.std()
