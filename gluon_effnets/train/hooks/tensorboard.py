"""TensorBoard: the scalars of the run as event files."""

from __future__ import annotations

from ..._requirements import optional_import
from ...files.write import CannotWrite, telling
from .tracker import Tracker

__all__ = ["TensorBoard"]


class TensorBoard(Tracker):
    """Writes loss and learning rate every `every` updates, and all scores, to <run folder>/tensorboard."""

    def __init__(self, every: int = 50):
        super().__init__(every)
        self._module = optional_import("tensorboardX", extra="tensorboard", why="the hook tensorboard")

    def open(self, state):
        self._writer = self._module.SummaryWriter(str(self._folder(state)), purge_step=state.update)

    def add(self, state, values):
        for key, value in values.items():
            self._require_thread(state)
            self._writer.add_scalar(key, value, state.update)

    def close(self, state):
        self._require_thread(state)
        with telling(self._folder(state)):
            self._writer.close()

    def _require_thread(self, state):
        """Raise CannotWrite if the thread that writes is dead: without it the run would wait for room in its queue."""
        events = getattr(self._writer.file_writer, "event_writer", None)
        thread = getattr(events, "_worker", None)
        if thread is not None and not thread.is_alive():
            raise CannotWrite(f"tensorboardX cannot write to {self._folder(state)} any more. Is the disk full?")

    def _folder(self, state):
        return state.out / "tensorboard"
