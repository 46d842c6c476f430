"""results/*.json: every row says what was done, and commands that a shell can run."""

import json
import shlex
from pathlib import Path

import pytest

from gluon_effnets.train.config import find_recipe

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]


def rows(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text())["rows"]


def option(words, name):
    return words[words.index(name) + 1] if name in words else None


@pytest.mark.parametrize("row", rows("trained"), ids=lambda row: f"{row.get('comparison', row['model'])} {row['seed']}")
def test_a_run_names_the_recipe_that_its_command_reads(row):
    words = [word for word in shlex.split(row["command"]) if not word.startswith("OMP_")]
    assert words[:2] == ["python", "train_imagenet.py"]
    model, config, data = (option(words, name) for name in ("--model", "--config", "--data"))
    read = config.replace("configs/", "") if config else find_recipe(model, data.partition(":")[0]).name
    recipe = row["recipe"].split(",")[0].split(" (")[0]
    assert (model, recipe) == (row["model"], read)
    settings = {words[place + 1].partition("=")[0] for place, word in enumerate(words) if word == "--set"}
    assert all(key in settings for key in (part.partition("=")[0] for part in row["recipe"].split(", ") if "=" in part))


def test_a_superseded_number_has_a_successor():
    published = rows("published")
    for old in (row for row in published if row.get("superseded")):
        others = [row for row in published if (row["model"], row["what"]) == (old["model"], old["what"])]
        assert any(row["value"] != old["value"] and "superseded" not in row for row in others), old


@pytest.mark.parametrize("page", ["README.md", "docs/quick_start.md"])
def test_the_demonstration_is_one_of_the_runs_and_their_range(page):
    runs = {row["seed"]: row["top1"] for row in rows("trained") if row["data"].startswith("digits")}
    text = (ROOT / page).read_text()
    assert len(runs) >= 3
    assert f"top-1              {runs[0]:.2f}% of 359 held-out images" in text
    assert f"{min(runs.values()):.2f} to {max(runs.values()):.2f} %, with {len(runs)} seeds" in text
