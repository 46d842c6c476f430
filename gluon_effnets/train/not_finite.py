"""NotFinite: how a run ends that has nothing more to learn from."""

from __future__ import annotations

from .run_folder import list_checkpoints
from .state import TrainState

__all__ = ["NotFinite"]


class NotFinite(RuntimeError):
    """A loss, a weight, or every gradient for many updates became NaN or infinite; the text has the last checkpoint.

    Args:
        what: The fault as the beginning of a sentence: "loss is not finite (update 7)".
        state: Of the run.
    """

    def __init__(self, what: str, state: TrainState):
        # Checkpoints hold finite weights alone. Of several workers the first may be the only one that sees them.
        saved = list_checkpoints(state.out) if state.workers.is_writer else []
        if saved:
            last = f"the last good checkpoint is {saved[-1]}"
        elif state.workers.is_writer:
            last = f"there is no checkpoint in {state.out} yet"
        else:
            last = f"the last checkpoint of worker 0 in {state.out} is from before"
        super().__init__(
            f"{what}; {last}.\nTry a lower optimizer.lr, a longer schedule.warmup or hooks.clip_gradients."
        )
