"""dev/first_run.py does what the pages tell a stranger to do, and times it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def first_run():
    spec = importlib.util.spec_from_file_location("first_run", ROOT / "dev" / "first_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_steps_are_those_of_the_pages(first_run):
    pages = "".join((ROOT / name).read_text() for name in ("README.md", "docs/installation.md", "docs/examples.md"))
    for step in first_run.STEPS:
        typed = step.command.replace(".venv/bin/", "").replace("PHOTO", "photo.jpg")
        assert typed in pages, typed


def repository(folder):
    folder.mkdir()
    (folder / "Makefile").write_text("setup:\n\techo made > made.txt\n")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run([*git, *words], check=True)


def test_steps_run_in_a_clone_and_add_up(first_run, tmp_path, monkeypatch):
    repository(tmp_path / "origin")
    monkeypatch.setattr(first_run, "ROOT", tmp_path / "origin")
    steps = (first_run.Step("set up", "make setup", "made.txt"), first_run.Step("look", "test -f PHOTO"))
    photo = tmp_path / "photo.jpg"
    photo.touch()
    rows = first_run.first_run(tmp_path / "clone", str(photo), {"PATH": "/usr/bin:/bin"}, steps)
    assert [row["step"] for row in rows] == ["clone", "set up", "look"] and json.dumps(rows)
    assert rows[-1]["since_clone"] >= max(row["seconds"] for row in rows) >= 0
    with pytest.raises(SystemExit, match=r"make nothing ended with 2, without there\.txt"):
        first_run.run_step(
            first_run.Step("no", "make nothing", "there.txt"), tmp_path / "clone", "", {"PATH": "/usr/bin:/bin"}
        )


def test_a_folder_that_is_there_is_refused(tmp_path):
    done = subprocess.run([sys.executable, "dev/first_run.py", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().endswith("is there already; name a new folder")
