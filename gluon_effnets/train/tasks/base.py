"""Task: the interface between the loop and a training method that needs its own forward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Sequence

from ..data import Batch
from ..metrics import means
from ..state import TrainState

if TYPE_CHECKING:
    from ..hooks.base import Hook

__all__ = ["Task"]


class Task:
    """What one step computes. Gradients are zeroed, reduced and applied by the loop, never here.

    A task remembers nothing from one update to the next: that is for parameters of the network and for hooks.
    `backwards` is the number of times a step calls `backward`. `moves_statistics` says whether steps change the running
    statistics of BN layers; where they do not, the workers' need no averaging, and stay as they are bit for bit.
    `best_of` is the score that chooses the best checkpoint. `detects` says whether it is for detectors, or else for
    networks that classify.
    """

    backwards = 1
    moves_statistics = True
    best_of = "top1"
    detects = False

    def prepare(self, state: TrainState, hooks: Sequence[Hook]) -> None:
        """Once, when everything is built: choose by `grad_req` what is trained, look for what other hooks must do.

        Raises:
            ValueError: The network, the recipe and this task do not go together.
        """

    def step(self, state: TrainState, batch: Batch, backward: Callable) -> Dict[str, Any]:
        """Run the forward passes of one batch, each ended by `backward(loss)`; return scalars (NDArray or float)."""
        raise NotImplementedError

    def evaluate(self, state: TrainState, batch: Batch) -> Dict[str, float]:
        """Return sums over the valid images of a batch; `count` among them is their number."""
        raise NotImplementedError

    def begin_evaluation(self, state: TrainState) -> None:
        """Before the first batch of an evaluation: forget what another one has collected."""

    def finish_evaluation(self, state: TrainState, sums: Dict[str, float]) -> Dict[str, float]:
        """Return the scores, given the sums over the images of all workers: their means.

        What cannot be summed is collected in `evaluate`, and comes from all workers by `state.workers.gather`.
        """
        return means(sums)
