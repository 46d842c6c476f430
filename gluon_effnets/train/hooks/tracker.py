"""Tracker: what all hooks do that hand the numbers of a run to another program."""

from __future__ import annotations

from typing import Any, Dict

from ...files.regular import read_text
from ...files.write import write_text
from ...files.yaml_text import parse_yaml
from ..state import TrainState
from .base import Hook, read_scalars

__all__ = ["Tracker", "keep_run_id", "recipe_of", "run_name"]


class Tracker(Hook):
    """Hands over loss and learning rate every `every` updates as train/..., and all scores as val/...

    One worker writes. A subclass opens, adds and closes.

    Args:
        every: Updates between two losses.
    """

    def __init__(self, every: int = 50):
        self.every = every

    def open(self, state: TrainState) -> None:
        """Before the first update, or the first one of a resumed run."""
        raise NotImplementedError

    def add(self, state: TrainState, values: Dict[str, float]) -> None:
        """Take numbers of the update `state.update`."""
        raise NotImplementedError

    def close(self, state: TrainState) -> None:
        """After the last update."""
        raise NotImplementedError

    def train_begin(self, state):
        if state.workers.is_writer:
            self.open(state)

    def batch_end(self, state):
        if state.workers.is_writer and state.update % self.every == 0:
            values = {**read_scalars(state), **state.precision.report(), "lr": state.trainer.learning_rate}
            self.add(state, {f"train/{key}": value for key, value in values.items()})

    def eval_end(self, state):
        if state.workers.is_writer:
            self.add(state, {f"val/{key}": value for key, value in state.scores.items()})

    def train_end(self, state):
        if state.workers.is_writer:
            self.close(state)


def run_name(state: TrainState) -> str:
    """The run folder, and behind it the stage of a run of several."""
    return f"{state.out.parent.name}.{state.out.name}" if state.stage.name else state.out.name


def recipe_of(state: TrainState) -> Dict[str, Any]:
    """The keys of the resolved recipe as `data.batch_size`; empty where the run folder has none."""
    path = state.out / "recipe.yaml"
    found: Dict[str, Any] = {}
    waiting = [("", parse_yaml(read_text(path), str(path)))] if path.is_file() else []
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict) and value:
            waiting += [(f"{key}.{inner}" if key else str(inner), value[inner]) for inner in value]
        elif key:
            found[key] = value
    return found


def keep_run_id(state: TrainState, program: str, run_id: str = "") -> str:
    """Return the name by which a program knows the run that is resumed, "" for a new run; or keep a new name."""
    path = state.out / f"{program}_run.txt"
    if run_id:
        write_text(path, f"{run_id}\n")
        return run_id
    return read_text(path).strip() if state.update and path.is_file() else ""
