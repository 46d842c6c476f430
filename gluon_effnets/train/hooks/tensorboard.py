"""TensorBoard: the scalars of the run as event files."""

from __future__ import annotations

from ..._requirements import optional_import
from .base import Hook, read_scalars

__all__ = ["TensorBoard"]


class TensorBoard(Hook):
    """Writes loss and learning rate every `every` updates, and all scores, to <run folder>/tensorboard."""

    def __init__(self, every: int = 50):
        self.every = every
        self._module = optional_import("tensorboardX", extra="tensorboard", why="the hook tensorboard")

    def train_begin(self, state):
        if state.workers.is_writer:
            self._writer = self._module.SummaryWriter(str(state.out / "tensorboard"), purge_step=state.update)

    def batch_end(self, state):
        if state.workers.is_writer and state.update % self.every == 0:
            for key, value in {**read_scalars(state), **state.precision.report()}.items():
                self._writer.add_scalar(f"train/{key}", value, state.update)
            self._writer.add_scalar("train/lr", state.trainer.learning_rate, state.update)

    def eval_end(self, state):
        if state.workers.is_writer:
            for key, value in state.scores.items():
                self._writer.add_scalar(f"val/{key}", value, state.update)

    def train_end(self, state):
        if state.workers.is_writer:
            self._writer.close()
