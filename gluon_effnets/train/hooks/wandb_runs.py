"""Weights & Biases: the numbers and the recipe of the run, on this machine until they are sent."""

from __future__ import annotations

from ..._requirements import optional_import
from .tracker import Tracker, keep_run_id, recipe_of, run_name

__all__ = ["WandB"]

MODES = ("offline", "online")


class WandB(Tracker):
    """Hands loss, learning rate and scores to Weights & Biases, and the recipe as its configuration.

    A resumed run goes on under the same name: `wandb sync` joins the parts.

    Args:
        every: Updates between two losses.
        project: The name of the project.
        mode: 'offline': all of it stays in <run folder>/wandb, until `wandb sync` sends it. 'online': it is sent at
            once, by the account of `wandb login`.

    Raises:
        ValueError: Another mode.
    """

    def __init__(self, every: int = 50, project: str = "gluon_effnets", mode: str = "offline"):
        super().__init__(every)
        if mode not in MODES:
            raise ValueError(f"hooks.wandb.mode is {mode!r}; choose 'offline' or 'online'")
        self.project, self.mode = project, mode
        self._module = optional_import("wandb", extra="wandb", why="the hook wandb")

    def open(self, state):
        known = keep_run_id(state, "wandb") or None
        self._run = self._module.init(
            project=self.project,
            name=run_name(state),
            id=known,
            dir=str(state.out),
            config=recipe_of(state),
            mode=self.mode,
            # Offline, wandb knows no earlier part, and warns where it is asked for one.
            resume="allow" if known and self.mode == "online" else None,
        )
        keep_run_id(state, "wandb", self._run.id)

    def add(self, state, values):
        self._run.log(values, step=state.update)

    def close(self, state):
        self._run.finish()
