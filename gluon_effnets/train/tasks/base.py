"""Task: the interface between the loop and a training method that needs its own forward passes."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ..data import Batch
from ..state import TrainState

__all__ = ["Task"]


class Task:
    """What one step computes. Gradients are zeroed, reduced and applied by the loop, never here.

    `backwards` is the number of times a step calls `backward`.
    """

    backwards = 1

    def step(self, state: TrainState, batch: Batch, backward: Callable) -> Dict[str, Any]:
        """Run the forward passes of one batch, each ended by `backward(loss)`; return scalars (NDArray or float)."""
        raise NotImplementedError

    def evaluate(self, state: TrainState, batch: Batch) -> Dict[str, float]:
        """Return sums over the valid images of a batch; `count` among them is their number."""
        raise NotImplementedError
