"""Hook: the moments of a run at which something can be added."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from ..data import Batch
from ..scalars import floats
from ..state import TrainState

__all__ = ["Hook", "as_float", "read_scalars"]


def as_float(value: Any) -> float:
    """The number in a scalar of a task, an NDArray (1,), which is waited for, or a number already."""
    return float(value.asscalar() if hasattr(value, "asscalar") else value)


def read_scalars(state: TrainState) -> Dict[str, float]:
    """The numbers in `state.scalars`. All updates that nobody has read are waited for together: once for all hooks."""
    unread, state.unread = state.unread, []
    return floats([*unread, state.scalars])[-1]


class Hook:
    """What happens around a step. All methods do nothing unless overridden.

    What a hook must remember from one update to the next goes through `state_dict` and `load_state_dict`: a run that
    was stopped and goes on makes a new object, and must be, bit for bit, the run that was never stopped.

    Example:
        class Loudest(Hook):
            def __init__(self, above: float = 10.0):  # the options of the recipe
                self.above, self.count = above, 0

            def batch_end(self, state):
                self.count += as_float(state.scalars["loss"]) > self.above

            def state_dict(self):
                return {"count": self.count}

            def load_state_dict(self, values):
                self.count = values["count"]
    """

    def check(self, hooks: Sequence[Hook]) -> None:
        """Before everything else: look at all hooks of the run, in their order.

        Raises:
            ValueError: They do not go together with this one.
        """

    def train_begin(self, state: TrainState) -> None:
        """Once, before the first epoch; after a checkpoint was loaded."""

    def epoch_begin(self, state: TrainState) -> None:
        """Before the first batch of an epoch, or of the rest of one."""

    def batch_begin(self, state: TrainState, batch: Batch) -> Optional[Batch]:
        """Before the forward pass of every batch; may return another batch."""

    def before_update(self, state: TrainState) -> None:
        """Gradients are complete and summed over the workers; times `state.grad_scale` they are the mean.

        Not called where nothing is trained by gradients.
        """

    def batch_end(self, state: TrainState) -> None:
        """After every update of the weights; `state.update` counts it, `state.scalars` holds its losses."""

    def eval_begin(self, state: TrainState) -> None:
        """Before an evaluation."""

    def eval_end(self, state: TrainState) -> None:
        """After an evaluation; `state.scores` holds the results and may be added to."""

    def eval_stopped(self, state: TrainState) -> None:
        """In place of `eval_end`: a signal ended the evaluation, which is repeated when the run goes on."""

    def epoch_end(self, state: TrainState) -> None:
        """After the last batch of an epoch."""

    def train_end(self, state: TrainState) -> None:
        """Once, after the last epoch and its evaluation."""

    def save_begin(self, state: TrainState) -> None:
        """Before a checkpoint, on all workers: what `state_dict` of the first one returns must hold for all."""

    def state_dict(self) -> Dict[str, Any]:
        """What a resumed run needs to go on as if it had never stopped.

        NDArrays and plain values (numbers, texts, lists, tuples, dicts of them) under texts as keys.
        """
        return {}

    def load_state_dict(self, values: Dict[str, Any]) -> None:
        """Take back what `state_dict` returned; before `train_begin`."""
