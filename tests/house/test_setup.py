"""Importing the package, its error texts when something is missing, the built wheel and the set-up script."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from waiting import PATIENCE_S

import gluon_effnets
from gluon_effnets._requirements import optional_import

ROOT = Path(gluon_effnets.__file__).resolve().parent.parent
pytestmark = pytest.mark.fast


def run_python(*arguments, path=(), cwd=None):
    """Run this interpreter with `path` before the checkout on PYTHONPATH, and no other PIP_* or PYTHON*."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, path), str(ROOT)])
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=cwd, text=True, capture_output=True, timeout=PATIENCE_S)


def import_error(path=(), before=""):
    """Return the lines of the ImportError that the first name of the package raises; importing it alone does not."""
    use = "try:\n  gluon_effnets.get_model\nexcept ImportError as error:\n  print(error)"
    code = f"import sys\n{before}\nimport gluon_effnets\n{use}"
    done = run_python("-c", code, path=path)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def fake_package(folder, name, text):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)
    return [folder]


def test_import_is_silent_and_free_of_warnings():
    done = run_python("-W", "error", "-c", "from gluon_effnets import get_model")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_import_leaves_optional_packages_and_the_trainer_alone():
    # Compared with MXNet, which itself imports cv2, onnx and sklearn where they are installed.
    names = "from gluon_effnets import get_model"
    code = f"import mxnet, sys; before = set(sys.modules); {names}; print(set(sys.modules) - before)"
    added = ast.literal_eval(run_python("-W", "ignore", "-c", code).stdout)
    assert "gluon_effnets.models" in added
    optional = {"sklearn", "matplotlib", "onnx", "onnxruntime", "torch", "horovod", "gluoncv", "cv2", "yaml"}
    assert {name.split(".")[0] for name in added} & optional == set()
    assert not any(name.startswith("gluon_effnets.train") for name in added)


def test_too_new_numpy_is_named_before_mxnet_is_touched(tmp_path):
    path = fake_package(tmp_path, "numpy", "__version__ = '1.26.4'")
    fake_package(tmp_path, "mxnet", "raise SystemExit('mxnet was imported')")
    lines = import_error(path)
    assert len(lines) == 2
    assert "1.26.4" in lines[0] and lines[1].endswith('-m pip install "numpy<1.24"')


@pytest.mark.parametrize(
    ("name", "command"),
    [("numpy", '-m pip install "numpy<1.24"'), ("mxnet", '-m pip install mxnet==1.9.1 "numpy<1.24"')],
)
def test_missing_package_gives_the_pip_command(name, command):
    lines = import_error(before=f"sys.modules[{name!r}] = None")
    assert len(lines) == 2
    assert "not installed" in lines[0] and command in lines[1]


def test_folder_named_mxnet_is_not_taken_for_mxnet(tmp_path):
    lines = import_error(fake_package(tmp_path, "mxnet", ""))
    assert len(lines) == 2
    assert str(tmp_path) in lines[0] and "mxnet-cu112==1.9.1" in lines[1]


def test_cuda_build_without_cuda_libraries_is_explained(tmp_path):
    lines = import_error(fake_package(tmp_path, "mxnet", "raise OSError('libcudnn.so.8: cannot open')"))
    assert len(lines) == 2
    assert "libcudnn.so.8" in lines[0] and "-m pip install mxnet==1.9.1" in lines[1]


def test_dependency_missing_inside_mxnet_keeps_its_own_error(tmp_path):
    lines = import_error(fake_package(tmp_path, "mxnet", "import graphviz_is_not_here"))
    assert lines == ["No module named 'graphviz_is_not_here'"]


def test_optional_import_returns_the_module():
    assert optional_import("xml.dom", extra="train", why="this test").__name__ == "xml.dom"


def test_optional_import_names_use_cause_and_extra():
    with pytest.raises(ImportError) as caught:
        optional_import("no_such_module", extra="train", why="the digits data set")
    first, second = str(caught.value).splitlines()
    assert first.startswith("no_such_module cannot be imported") and "the digits data set" in first
    assert second == f"Install it with: {sys.executable} -m pip install 'scikit-learn>=1.0' 'matplotlib>=3.3'"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the sources with a recipe and a table of its own."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "gluon_effnets", source / "gluon_effnets", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("configs/probe.yaml", "results/probe.json"):
        (source / name).parent.mkdir()
        (source / name).write_text("{}")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out)
    done = run_python("-m", "pip", "wheel", *options, source, cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel):
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(wheel.read(name).decode())


def test_wheel_finds_its_own_recipes_and_tables(wheel, tmp_path):
    wheel.extractall(tmp_path)
    assert (tmp_path / "gluon_effnets" / "py.typed").is_file()
    sources = [path for path in (ROOT / "gluon_effnets" / "native").rglob("*") if path.suffix in (".cc", ".h")]
    assert len(sources) > 5 and all((tmp_path / path.relative_to(ROOT)).is_file() for path in sources)
    code = (
        "from gluon_effnets._resources import folder\n"
        "print(folder('configs') / 'probe.yaml', folder('results') / 'probe.json', sep='\\n')"
    )
    found = run_python("-c", code, path=[tmp_path], cwd=tmp_path).stdout.splitlines()
    package = tmp_path.resolve() / "gluon_effnets"
    assert found == [str(package / "configs" / "probe.yaml"), str(package / "results" / "probe.json")]
    assert all(Path(name).is_file() for name in found)


def test_wheel_metadata(metadata):
    assert metadata["Version"] == gluon_effnets.__version__
    assert set(metadata["Requires-Python"].split(",")) == {">=3.8", "<3.12"}
    extras = {
        "cpu",
        "cu112",
        "hvd",
        "train",
        "onnx",
        "openvino",
        "tvm",
        "torch",
        "tflite",
        "weights",
        "tensorboard",
        "mlflow",
        "wandb",
        "completion",
        "dev",
    }
    assert set(metadata.get_all("Provides-Extra")) == extras


def test_constraints_pin_what_set_up_installs_within_the_declared_ranges(metadata):
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pinned = [Requirement(line) for line in lines]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pinned)
    here = {pin.name.lower(): str(pin.specifier)[2:] for pin in pinned if not pin.marker or pin.marker.evaluate()}
    checked = 0
    for text in metadata.get_all("Requires-Dist"):
        wish = Requirement(text)
        installed = ({"extra": extra} for extra in ("", "cpu", "hvd", "train", "onnx", "dev"))
        if wish.marker is None or any(wish.marker.evaluate(extra) for extra in installed):
            assert wish.specifier.contains(here[wish.name.lower()]), text
            checked += 1
    assert checked >= 14


def set_up(folder, search_path, **environment):
    """Run the set-up script in a copy without .venv; it must end before it makes one."""
    for name in ("dev/setup_env.sh", "constraints.txt", "setup.py", "gluon_effnets/native/kernels.cc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    environment["PATH"] = str(search_path)
    script = [shutil.which("bash"), str(folder / "dev" / "setup_env.sh")]
    done = subprocess.run(script, env=environment, text=True, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 1 and not (folder / ".venv").exists()
    return done.stderr.splitlines()


@pytest.fixture
def tools(tmp_path):
    """A folder for PATH with the few programs that the script needs, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "cat", "dirname", "sha256sum"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def add_program(folder, name, text):
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_set_up_without_python_says_what_to_install(tmp_path, tools):
    lines = set_up(tmp_path, tools)
    assert len(lines) == 2
    assert "No Python 3.8 to 3.11" in lines[0] and "apt install python3-venv" in lines[1]


def test_set_up_refuses_a_python_of_another_version(tmp_path, tools):
    add_program(tools, "python3", "echo 3.12")
    lines = set_up(tmp_path, tools, PYTHON="python3")
    assert len(lines) == 2
    assert "PYTHON=python3 is not a working Python 3.8 to 3.11" in lines[0]


def test_set_up_names_the_package_with_the_venv_module(tmp_path, tools):
    add_program(tools, "python3.11", "[[ $2 == *version_info* ]] && echo 3.11 || exit 1")
    lines = set_up(tmp_path, tools)
    assert len(lines) == 2
    assert lines[0].startswith("python3.11 cannot make virtual environments") and "python3-venv" in lines[1]
