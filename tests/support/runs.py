"""Runs of the training loop: a network that shows what a batch does, a kill in the middle, what a run leaves."""

from __future__ import annotations

import dataclasses
import json
from typing import Callable, List, Sequence

import mxnet as mx
import pytest
from mxnet.gluon import nn
from recipes import STAGES

from gluon_effnets.models import ClassificationNet, get_model, register_model
from gluon_effnets.models.darts_search import SPACES
from gluon_effnets.train import loop
from gluon_effnets.train.build import Hooks, resume
from gluon_effnets.train.checkpoint import list_checkpoints
from gluon_effnets.train.config import Recipe
from gluon_effnets.train.hooks import Hook
from gluon_effnets.train.state import TrainState
from gluon_effnets.train.tasks import Task

# Of cells, with few operations: a graph of them all takes seconds.
TINY_SPACE = "tests"
SPACES[TINY_SPACE] = ("none", "max_pool_3x3", "skip_connect", "sandglass_3x3")


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


def save_teacher(path, model: str = "plain_tiny", scale: float = 1.0, **options) -> str:
    """Write weights of a model for the ten synthetic classes, times a factor; return the path as a text."""
    net = get_model(model, classes=10, **options)
    net.initialize(mx.init.Xavier())
    for param in net.collect_params().values():
        param.set_data(param.data() * scale)
    net.save_parameters(str(path))
    return str(path)


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
        return loop.run_evaluation(self.state, self.task)

    def weights(self) -> dict:
        return {k: p.data().asnumpy() for k, p in self.state.net._collect_params_with_prefix().items()}

    def log(self) -> List[dict]:
        return [json.loads(line) for line in (self.state.out / "log.jsonl").read_text().splitlines()]


def content(run, update):
    """Everything a checkpoint holds, as bytes."""
    folder = run.state.out / "checkpoints" / f"update-{update:08d}"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def logged(run):
    """The log without what depends on the clock."""
    return [{k: v for k, v in line.items() if k != "images_per_s"} for line in run.log()]


def assert_resumes(start, *overrides, killed_after=3, saved=2):
    whole = start(*overrides, out="whole").train()
    start(*overrides, out="parts").train_until_killed(killed_after)
    again = start(*overrides, out="parts").resume()
    assert again.state.update == saved, "the last checkpoint before the kill"
    again.train()
    assert content(again, again.state.total_updates) == content(whole, whole.state.total_updates)
    assert logged(again) == logged(whole)
    return whole


def loaded(path):
    # MXNet gives a list for a file without arrays.
    return mx.nd.load(str(path)) or {}


def arrays(out):
    """What the stages ended with: their last checkpoints, and the weights."""
    files = {}
    for name in STAGES:
        folder = list_checkpoints(out / name)[-1]
        for path in [*folder.glob("*.params"), out / name / "ds_mobilenet_tiny.params"]:
            files.update({(name, path.name, key): value.asnumpy() for key, value in loaded(path).items()})
    return files
