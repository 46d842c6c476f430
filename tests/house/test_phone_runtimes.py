"""dev/phone_runtimes.py: what it says of runtimes that answer rightly, wrongly or not at all, without their wheels."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.deploy import export, initialize_like_trained

SCRIPT = Path(__file__).parents[2] / "dev" / "phone_runtimes.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("phone_runtimes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phones")
    net = get_model("idle_mbv3_small", classes=5)
    initialize_like_trained(net)
    for name, batch in (("net", 1), ("any", None)):
        export(net, folder / name, 32, format="onnx", batch=batch)
    return folder


def converted(path, out):
    target = out / f"{path.stem}.fake"
    target.write_bytes(b"12345")
    return [target]


def not_converted(path, out):
    raise RuntimeError("first line\nOperator Foo is not supported")


RUNS = {
    "right": (converted, lambda files, data, expected: [answer + 1e-6 * answer.std() for answer in expected]),
    "wrong": (converted, lambda files, data, expected: [answer + 2e-3 * answer.std() for answer in expected]),
    "nan": (converted, lambda files, data, expected: [answer * np.nan for answer in expected]),
    "short": (converted, lambda files, data, expected: [answer[:, 1:] for answer in expected]),
    "none": (not_converted, None),
}


@pytest.mark.fast
@pytest.mark.parametrize(
    ("run", "error"),
    [
        ("right", None),
        ("wrong", "differs by 2.0e-03 from ONNX Runtime"),
        ("nan", "differs by nan"),
        ("short", "an output has the shape (1, 4), in ONNX Runtime (1, 5)"),
        ("none", "Operator Foo is not supported"),
    ],
)
def test_rows_say_what_became_of_a_file(run, error, script, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(script.RUNTIMES, "mnn", (("numpy",), *RUNS[run]))
    kept = tmp_path / "rows.json"
    arguments = ["mnn", str(exported / "net.onnx"), "--out", str(tmp_path / "out"), "--json", str(kept)]
    assert script.main(arguments) == (1 if error else 0)
    [row] = json.loads(kept.read_text())["rows"]
    if error:
        assert error in row["error"] and error in capsys.readouterr().out
    else:
        assert row["error"] is None and row["bytes"] == 5 and 0 < row["difference"] < 1e-5


@pytest.mark.fast
def test_tvm_needs_its_runtime_for_arm(script, tmp_path, monkeypatch):
    monkeypatch.delenv("TVM_AARCH64", raising=False)
    with pytest.raises(ValueError, match="TVM_AARCH64 must name the folder"):
        script.run_tvm([tmp_path / "net.so"], np.zeros((1, 3, 8, 8), np.float32), [np.zeros((1, 5))])
    with pytest.raises(ValueError, match="one output"):
        script.run_tvm([tmp_path / "net.so"], np.zeros((1, 3, 8, 8), np.float32), [np.zeros((1, 5))] * 2)


@pytest.mark.fast
def test_tvm_builds_for_arm_by_the_file_of_the_package(script):
    """The file is loaded without the package; TVM is not asked for before something is compiled."""
    compiler = script.module_of(script.ROOT / "gluon_effnets" / "deploy" / "to_tvm" / "compile.py")
    assert compiler.AARCH64.triple == "aarch64-linux-gnu" and compiler.AARCH64.lanes == 4
    assert callable(compiler.build_for)


@pytest.mark.fast
def test_any_number_of_images_is_refused_and_the_other_files_go_on(script, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(script.RUNTIMES, "mnn", (("numpy",), *RUNS["right"]))
    files = [str(exported / "any.onnx"), str(exported / "net.onnx")]
    assert script.main(["mnn", *files, "--out", str(tmp_path)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "export it with --batch 1" in first and second.startswith("net: 0.00 MB")


@pytest.mark.fast
def test_boxes_count_in_sides_of_the_image_and_scores_as_they_are(script):
    boxes, scores = np.full((1, 2, 4), 100, np.float32), np.full((1, 2, 3), 0.5, np.float32)
    scales = script.scales([boxes, scores], 320)
    assert script.difference([boxes + 32, scores], [boxes, scores], scales) == pytest.approx(0.1)
    assert script.difference([boxes, scores + 0.25], [boxes, scores], scales) == pytest.approx(0.25)


@pytest.mark.fast
def test_a_converter_that_writes_nothing_is_quoted(script, tmp_path):
    command = ["sh", "-c", "echo fine; echo 'Error: no Foo' >&2; echo bye"]
    with pytest.raises(ValueError, match="Error: no Foo"):
        script.called(command, tmp_path, [tmp_path / "net.mnn"])


@pytest.mark.parametrize("name", ["mnn", "ncnn", "litert"])
def test_the_runtime_itself(name, script, exported, tmp_path):
    for package in script.RUNTIMES[name][0]:
        try:
            script.importlib.metadata.version(package)
        except script.importlib.metadata.PackageNotFoundError:
            pytest.skip(f"needs the optional wheel {package}")
    assert script.main([name, str(exported / "net.onnx"), "--out", str(tmp_path)]) == 0


@pytest.mark.fast
def test_converters_that_replace_their_input_get_a_copy(script, exported, tmp_path):
    path = exported / "net.onnx"
    copy = script.copied(path, tmp_path)
    assert copy != path and copy.read_bytes() == path.read_bytes()
