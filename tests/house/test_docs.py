"""The documents tell the truth: their Python runs, their tables are those of results/, their files and links exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
# Reads a checkpoint that is not part of the repository; tests/weights/test_weights.py runs the same calls.
NEEDS_A_DOWNLOAD = {"docs/weights.md"}


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path):
    name = str(page.relative_to(ROOT))
    code = blocks(page)
    if not code or name in NEEDS_A_DOWNLOAD:
        assert name not in NEEDS_A_DOWNLOAD or code
        return
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr


def test_tables_are_those_of_the_results():
    command = [sys.executable, "dev/make_tables.py", "--check"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_every_recipe_key_is_documented():
    import dataclasses

    from gluon_effnets.train.config import DistributedSettings, OptimizerSettings, Recipe, ScheduleSettings
    from gluon_effnets.train.hooks import HOOKS

    text = (ROOT / "docs" / "training.md").read_text()
    keys = [
        field.name
        for cls in (Recipe, OptimizerSettings, ScheduleSettings, DistributedSettings)
        for field in dataclasses.fields(cls)
    ]
    assert [key for key in [*keys, *HOOKS] if not re.search(rf"[`.]{key}\b", text)] == []
