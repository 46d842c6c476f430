"""Fixtures of the training tests: a recipe that trains in a second, and runs made of it."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
from pathlib import Path
from typing import Callable, List, Sequence

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from gluon_effnets.models import ClassificationNet, register_model
from gluon_effnets.train import loop
from gluon_effnets.train.build import Hooks, build, resume
from gluon_effnets.train.config import Recipe, load_recipe
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.evaluation import evaluate
from gluon_effnets.train.hooks import Hook
from gluon_effnets.train.state import TrainState
from gluon_effnets.train.tasks import Task

TINY = """
model: idle_tiny
data: {source: "synthetic:32", image_size: 16, batch_size: 8, augment: none}
duration: 4it
optimizer: {name: nag, lr: 0.05, weight_decay: 1.0e-4, options: {momentum: 0.9}}
schedule: {name: cosine, final: 0.2}  # above 0, so that the last updates have an effect
evaluate_every: 4it
checkpoint_every: 2it
"""


@pytest.fixture(autouse=True, scope="module")
def _seeded_module() -> None:
    _seed()


@pytest.fixture(autouse=True)
def _seeded(_seeded_module) -> None:
    """Random numbers that depend neither on the tests before nor on how they are spread over processes."""
    _seed()


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    mx.random.seed(0)


def pytest_collection_modifyitems(items) -> None:
    """Let jobs of several workers run one after the other where tests run side by side."""
    for item in items:
        if item.get_closest_marker("dist"):
            item.add_marker(pytest.mark.xdist_group("dist"))


class PlainNet(ClassificationNet):
    """Two convolutions without BN: the gradient of a batch is the mean of those of its parts."""

    def __init__(self, stem_stride=1, **options):
        super().__init__(**options)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(
                nn.Conv2D(8, 3, stem_stride, 1, in_channels=self.in_channels, activation="relu"),
                nn.Conv2D(16, 3, 2, 1, in_channels=8, activation="relu"),
                nn.GlobalAvgPool2D(),
                nn.Flatten(),
            )
            self.num_features = 16
            self._make_output()


@register_model(family="tests", paper="none", hidden=True)
def plain_tiny(**options) -> PlainNet:
    """PlainNet under a name that recipes can use."""
    return PlainNet(**options)


class Killed(Exception):
    """Stands for the end of a process."""


def after_updates(hooks: Sequence[Hook], call: Callable[[TrainState], None]) -> None:
    """Let `call` follow every update, when all hooks and, the last of them, the checkpoint are done with it."""
    checkpoint = hooks[-1]
    batch_end = checkpoint.batch_end

    def batch_end_and_call(state):
        batch_end(state)
        call(state)

    checkpoint.batch_end = batch_end_and_call


def kill_after(hooks: Sequence[Hook], update: int) -> None:
    """Let a run end after an update, when everything is done with it."""

    def die(state):
        if state.update == update:
            raise Killed

    after_updates(hooks, die)


@dataclasses.dataclass
class Run:
    """What `build` makes of a recipe."""

    recipe: Recipe
    state: TrainState
    task: Task
    hooks: Hooks

    def train(self, *more: Hook) -> Run:
        """Train, with hooks that remember nothing before the checkpoint."""
        loop.train(self.state, self.task, [*self.hooks[:-1], *more, self.hooks.checkpoint])
        return self

    def train_until_killed(self, update: int) -> None:
        kill_after(self.hooks, update)
        with pytest.raises(Killed):
            self.train()

    def resume(self) -> Run:
        resume(self.state, self.hooks, self.recipe)
        return self

    def evaluate(self) -> dict:
        state, score = self.state, functools.partial(self.task.evaluate, self.state)
        return evaluate(state.net, state.data, state.workers, state.ctx, score)

    def weights(self) -> dict:
        return {k: p.data().asnumpy() for k, p in self.state.net._collect_params_with_prefix().items()}

    def log(self) -> List[dict]:
        return [json.loads(line) for line in (self.state.out / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def recipe_file(tmp_path) -> Path:
    """A complete recipe of `idle_tiny`: 4 updates of 8 images, one epoch, evaluated at its end, saved after 2 and 4."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def start(tmp_path, recipe_file):
    """Function (*overrides, out='run', extra_hooks=()) -> Run: new objects as another process would make them."""

    def start(*overrides: str, out: str = "run", extra_hooks: Sequence[Hook] = ()) -> Run:
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        recipe = load_recipe(recipe_file, overrides)
        return Run(recipe, *build(recipe, folder, Workers(), extra_hooks=extra_hooks))

    return start
