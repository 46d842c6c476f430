"""What errors and pages say about installing: commands that work for a package that no registry has."""

import ast
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_effnets._requirements import EXTRAS, install_command
from gluon_effnets.deploy.to_tvm.compile import INSTALL
from gluon_effnets.train.dist import start_workers

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gluon_effnets"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Without a program behind them pip would look for the package on a registry.
UNINSTALLABLE = "gluon_effnets" + "["


@pytest.mark.parametrize("extra", [extra for extra in EXTRAS if extra != "hvd"])
def test_the_command_names_every_package_of_an_extra(extra):
    words = shlex.split(install_command(extra, "/a folder/python"))
    assert words == ["/a folder/python", "-m", "pip", "install", *EXTRAS[extra]]


def test_horovod_is_built_for_the_installed_mxnet_and_not_taken_from_a_cache():
    first, second = install_command("hvd").split(" && ")
    assert shlex.split(first)[1:] == ["-m", "pip", "install", "wheel", "setuptools<70"]
    words = shlex.split(second)
    assert words[0] == "HOROVOD_WITH_MXNET=1" and words[-len(EXTRAS["hvd"]) :] == EXTRAS["hvd"]
    assert {"HOROVOD_WITH_GLOO=1", "--no-build-isolation", "--no-cache-dir", "--force-reinstall"} <= set(words)


def test_pages_build_horovod_as_the_error_says():
    command = install_command("hvd", "python").partition(" && ")[2]
    settings = [word for word in shlex.split(command) if word.startswith(("HOROVOD_", "CMAKE_", "--"))]
    script = (ROOT / "dev" / "setup_env.sh").read_text()
    assert [word for word in settings if word.isupper() and word not in script] == []
    for name in ("docs/installation.md", "docs/distributed.md"):
        text = (ROOT / name).read_text()
        assert [word for word in settings if word not in text and word != "HOROVOD_WITHOUT_MPI=1"] == [], name


def test_nothing_is_installed_from_a_registry_that_does_not_have_it():
    files = [*PAGES, *PACKAGE.rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in files if UNINSTALLABLE in path.read_text()] == []


def test_optional_imports_name_what_installs_them():
    named = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "optional_import":
                extra = next((word.value for word in node.keywords if word.arg == "extra"), (node.args + [None])[1:2])
                extra = extra[0] if isinstance(extra, list) else extra
                named.add(extra.value)
    assert "onnx" in named
    assert all(len(shlex.split(install_command(extra))) > 4 for extra in named), named


def test_the_compiler_that_stands_alone_names_the_packages_of_its_extra():
    words = INSTALL.format(python="python").partition("pip install ")[2].split()
    assert words == [package.split(";")[0] for package in EXTRAS["tvm"][:2]]


@pytest.mark.parametrize(
    ("horovod", "state"),
    [
        ("raise ImportError('Extension horovod.mxnet has not been built\\nIf this is not expected')", "has none"),
        (None, "none is installed"),
    ],
)
def test_hvd_without_a_horovod_for_mxnet_is_one_sentence_and_a_command(horovod, state, tmp_path, monkeypatch):
    for name in ("horovod", "horovod.mxnet"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    if horovod is None:
        monkeypatch.setitem(sys.modules, "horovod", None)
    else:
        (tmp_path / "horovod").mkdir()
        (tmp_path / "horovod" / "__init__.py").write_text("")
        (tmp_path / "horovod" / "mxnet.py").write_text(horovod)
        monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError) as caught:
        start_workers(use_horovod=True)
    sentence, command = str(caught.value).splitlines()
    assert sentence.startswith("--hvd needs a Horovod that was built for MXNet") and state in sentence
    assert "If this" not in sentence and command == install_command("hvd")


@pytest.mark.parametrize(
    "words", [["-m", "gluon_effnets", "list"], ["gluon-effnets", "list"], [str(ROOT / "train_imagenet.py")]]
)
def test_commands_without_mxnet_end_with_a_sentence(words, tmp_path):
    (tmp_path / "mxnet.py").write_text("raise ModuleNotFoundError('No module named mxnet', name='mxnet')")
    if words[0] == "gluon-effnets":  # as pip writes the program of an entry point
        words[0] = str(tmp_path / "gluon-effnets")
        Path(words[0]).write_text("import sys\nfrom gluon_effnets.__main__ import main\nsys.exit(main())\n")
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""}
    done = subprocess.run([sys.executable, *words], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first == "error: gluon_effnets needs MXNet 1.9.1, which is not installed."
    assert second.startswith("Install it with: ") and "mxnet==1.9.1" in second


def test_importing_without_mxnet_is_one_error_with_the_sentence_at_its_end(tmp_path):
    (tmp_path / "mxnet.py").write_text("raise ModuleNotFoundError('No module named mxnet', name='mxnet')")
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""}
    command = [sys.executable, "-c", "from gluon_effnets import get_model"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-2] == "ImportError: gluon_effnets needs MXNet 1.9.1, which is not installed."


def test_programs_of_others_can_catch_the_error_of_a_missing_mxnet(tmp_path):
    (tmp_path / "mxnet.py").write_text("raise ModuleNotFoundError('No module named mxnet', name='mxnet')")
    (tmp_path / "program.py").write_text(
        "try:\n  from gluon_effnets import nn\nexcept ImportError:\n  print('went on')\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""}
    command = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
