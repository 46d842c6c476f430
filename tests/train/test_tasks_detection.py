"""The task detection: its step and its evaluation, what goes with it, and what is refused."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from detection_runs import CLASSES, TINY_DETECTION, open_detection, tiny_detection
from mxnet import autograd
from runs import Run, assert_resumes, content, logged

from gluon_effnets.detection import DetectionScores
from gluon_effnets.train.build import build
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.tasks.detection import Detection


@pytest.fixture
def start(tmp_path):
    """As the common one, with the tiny detector's recipe."""
    (tmp_path / "tiny.yaml").write_text(TINY_DETECTION)

    def start(*overrides: str, out: str = "run", extra_hooks=()) -> Run:
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        recipe = load_recipe(tmp_path / "tiny.yaml", overrides)
        return Run(recipe, *build(recipe, folder, Workers(), extra_hooks=extra_hooks))

    with tiny_detection():
        yield start


def test_a_run_learns_and_is_scored(start):
    run = start("duration=40ep", "evaluate_every=80it", "optimizer.lr=0.05").train()
    assert run.state.scores["map"] > 0.5
    evaluations = [line for line in run.log() if line["kind"] == "eval"]
    assert evaluations[-1]["loss"] < evaluations[0]["loss"]
