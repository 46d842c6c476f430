"""Every task trains in mixed precision, and a run whose updates are all skipped does not end as if it had trained."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
from recipes import TINY
from runs import save_teacher
from waiting import PATIENCE_S
from workers import environment

from gluon_effnets.train.tasks import TASKS

DSNET = ["model=ds_mobilenet_tiny"]
OVERRIDES = {
    "auxiliary": ["model=darts_tiny", "model_options={{channels: 4, auxiliary: true}}", "data.image_size=32"],
    "classification": [],
    "darts": [
        "model=darts_search",
        "model_options={{space: darts, channels: 4, layers: 5, nodes: 1}}",
        "data.source=synthetic:64",
        "data.kept_back=0.5",
        "hooks={{architecture: {{}}}}",
    ],
    "detection": ["model=detector_tiny", "data.source=scattered_digits:32", "data.image_size=64"],
    "distill": ["task_options={{teacher: idle_tiny, weights: {weights}}}"],
    "gate": [*DSNET, "task_options.noise=true"],
    "recalibrate": DSNET,
    "single_path": ["model=mobilenet_v3_small", "model_options={{multiplier: 0.25}}"],
    "slimmable": [*DSNET, "task_options.targets=ensemble", "hooks.ema.decay=0.9"],
}

TASK = """
    import sys
    import detection_runs
    from gluon_effnets.commands.train import main

    recipe, out, *overrides = sys.argv[1:]
    settings = [word for override in ["precision=bfloat16", *overrides] for word in ("--set", override)]
    sys.exit(main(["--config", recipe, "--out", out, *settings]))
"""
SKIPPED = """
    import math, sys
    from gluon_effnets.commands.train import main
    from gluon_effnets.train.hooks.watched import Watched

    ordinary = Watched.before_update

    def poisoned(self, state):
        next(p for p in state.net.collect_params().values() if p.grad_req != "null").grad()[:] = math.inf
        ordinary(self, state)

    Watched.before_update = poisoned
    recipe, out = sys.argv[1:]
    words = ("precision=bfloat16", "duration=8it", "max_skipped_updates=5", "checkpoint_every=2it")
    sys.exit(main(["--config", recipe, "--out", out, *(word for override in words for word in ("--set", override))]))
"""


def run(code: str, tmp_path, *overrides: str):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    command = [sys.executable, "-c", textwrap.dedent(code), str(recipe), str(tmp_path / "run"), *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment())


def test_every_task_is_here():
    assert set(OVERRIDES) == set(TASKS), "enter the task, with what makes it run"


@pytest.mark.parametrize("task", sorted(OVERRIDES))
def test_a_task_trains_in_bfloat16(tmp_path, task):
    weights = save_teacher(tmp_path / "teacher.params", "idle_tiny") if task == "distill" else ""
    done = run(TASK, tmp_path, f"task={task}", *(text.format(weights=weights) for text in OVERRIDES[task]))
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["updates"] == 4


def test_a_run_that_never_updates_says_so_and_ends(tmp_path):
    done = run(SKIPPED, tmp_path)
    assert done.returncode != 0 and "the last 5 updates, up to number 5, were skipped" in done.stderr
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any(line.get("skipped_updates", 0) > 0 for line in lines)
