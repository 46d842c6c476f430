"""The runtime where the main package cannot be: without MXNet, as a wheel of its own, with NumPy 2."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from exports import exported, jpeg, same
from images import photo
from waiting import PATIENCE_S

import gluon_effnets
from gluon_effnets.runtime import load

ROOT = Path(gluon_effnets.__file__).resolve().parent.parent
RUNTIME = ROOT / "gluon_effnets" / "runtime"
ABSENT = "import sys; sys.modules.update(dict.fromkeys(['mxnet', 'gluoncv', 'yaml', 'tqdm', 'cv2', 'onnx']))\n"
# Whatever runs it, the answers are the same.
CLASSIFY = """
import json, numpy, sys
from pathlib import Path
from gluon_effnets.runtime import load
from gluon_effnets.runtime.recordio import Reader, Writer
description, image, folder = sys.argv[1:]
with Writer(folder + "/a.rec") as writer:
    writer.append(Path(image).read_bytes(), [2, 5, 0, 0.1, 0.2, 0.3, 0.4])
with Reader(folder + "/a.rec") as reader:
    [record] = reader
net = load(description, threads=1)
found = net([image, record.content])
print(json.dumps({"numpy": numpy.__version__, "p": found.tolist(), "labels": record.labels.tolist(),
                  "modules": sorted(name for name in sys.modules if name.startswith("gluon_effnets"))}))
"""


def run(python, *arguments, path=ROOT, cwd=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.update({"PYTHONPATH": str(path)} if path else {})
    command = [str(python), *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=cwd, text=True, capture_output=True, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """An export, a photograph that is turned, and the probabilities of its classes."""
    folder = tmp_path_factory.mktemp("case")
    description = exported(folder, interpolation="bilinear")
    (folder / "a.jpg").write_bytes(jpeg(photo(1, 71, 93), 6))
    return description, folder / "a.jpg", load(description, threads=1)(folder / "a.jpg")


def check(done, case):
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert same(np.array(answer["p"]), np.repeat(case[2], 2, axis=0))
    np.testing.assert_allclose(answer["labels"], [2, 5, 0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert all(name in ("gluon_effnets", "gluon_effnets.runtime") or name.startswith("gluon_effnets.runtime.")
               for name in answer["modules"])  # fmt: skip
    return answer


@pytest.mark.fast
def test_networks_run_where_mxnet_is_not_installed(case, tmp_path):
    check(run(sys.executable, "-W", "error", "-c", ABSENT + CLASSIFY, *case[:2], tmp_path), case)


@pytest.mark.fast
def test_the_command_runs_where_mxnet_is_not_installed(case, tmp_path):
    (tmp_path / "mxnet.py").write_text("raise ModuleNotFoundError('No module named mxnet', name='mxnet')")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    absent = tmp_path / "absent.jpg"
    words = ["-W", "error", "-m", "gluon_effnets.runtime", case[0], case[1], absent, "--top", "2"]
    done = run(sys.executable, *words, path=path)
    assert done.returncode == 1 and done.stderr.startswith(f"error: no image at {absent}")
    first, *classes = done.stdout.splitlines()
    expected = load(case[0], threads=1).top(case[1], 2)
    assert first == str(case[1]) and classes == [f"  {p:7.2%}  {name}" for name, p in expected]
    done = run(sys.executable, *words[:6], "--json", "--top", "1", path=path)
    assert json.loads(done.stdout)["classes"][0]["name"] == expected[0][0]
    done = run(sys.executable, "-m", "gluon_effnets.runtime", tmp_path / "absent.onnx", case[1], path=path)
    assert (done.returncode, done.stderr.splitlines()[0][:27]) == (1, "error: no ONNX file at " + str(tmp_path)[:4])
    done = run(sys.executable, "-m", "gluon_effnets", "list", path=path)
    assert done.returncode == 1 and done.stderr.startswith("error: gluon_effnets needs MXNet 1.9.1")


@pytest.mark.fast
def test_names_of_the_package_are_there_but_need_mxnet():
    code = "import gluon_effnets; print(gluon_effnets.__version__, 'get_model' in dir(gluon_effnets)); "
    code += "from gluon_effnets import get_model"
    done = run(sys.executable, "-c", ABSENT + code)
    assert done.stdout == f"{gluon_effnets.__version__} True\n"
    assert done.stderr.splitlines()[-2] == "ImportError: gluon_effnets needs MXNet 1.9.1, which is not installed."


@pytest.mark.fast
def test_importing_waits_for_nothing_that_is_not_needed():
    code = "import sys; before = set(sys.modules); import gluon_effnets{}; print(set(sys.modules) - before)"
    for module, absent in (("", {"numpy", "mxnet"}), (".runtime", {"PIL", "onnxruntime"})):
        loaded = ast.literal_eval(run(sys.executable, "-c", code.format(module)).stdout)
        assert not {name.split(".")[0] for name in loaded} & absent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the runtime, built from a copy of the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(ROOT / "dev" / "runtime_wheel", source / "dev" / "runtime_wheel", ignore=skipped)
    shutil.copytree(ROOT / "gluon_effnets", source / "gluon_effnets", ignore=skipped)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out)
    done = run(sys.executable, "-m", "pip", "wheel", *options, source / "dev" / "runtime_wheel", path=None)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.mark.fast
def test_the_wheel_holds_the_runtime_alone(wheel, case, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
        metadata = file.read(next(name for name in file.namelist() if name.endswith("METADATA"))).decode()
        file.extractall(tmp_path)
    packaged = {path.relative_to(ROOT).as_posix() for path in RUNTIME.iterdir() if path.is_file()}
    assert set(names) == packaged and "gluon_effnets/runtime/py.typed" in names
    assert f"Version: {gluon_effnets.__version__}\n" in metadata and "Requires-Python: >=3.8\n" in metadata
    wishes = {line.split(" ")[1].split(">")[0] for line in metadata.splitlines() if line.startswith("Requires-Dist")}
    assert wishes == {"numpy", "Pillow", "onnxruntime"}
    answer = check(run(sys.executable, "-c", ABSENT + CLASSIFY, *case[:2], tmp_path, path=tmp_path), case)
    assert "gluon_effnets" in answer["modules"]


@pytest.mark.slow
def test_the_wheel_in_a_bare_environment_with_numpy_2(wheel, case, tmp_path):
    """It takes a minute: pip unpacks ONNX Runtime and NumPy."""
    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = run(python, "-m", "pip", "install", "-q", wheel, "numpy>=2", path=None)
    if "No matching distribution found for numpy" in done.stderr:
        pytest.skip("needs an index of packages")
    assert done.returncode == 0, done.stderr
    answer = check(run(python, "-W", "error", "-c", CLASSIFY, *case[:2], tmp_path, path=None, cwd=tmp_path), case)
    assert int(answer["numpy"].split(".")[0]) >= 2
