"""The weights that a finished run exports: the last, those of the best checkpoint, or their moving average."""

from __future__ import annotations

import contextlib
import logging
from typing import Dict, Iterator, NamedTuple, Optional, Sequence

import mxnet as mx
from mxnet.gluon.block import Block

from .checkpoint import Checkpoint, read_weights
from .config import Recipe
from .hooks.base import Hook
from .hooks.ema import EMA
from .state import TrainState

__all__ = ["LAST", "FinalWeights", "exported_weights", "find_average", "final_weights", "in_network"]

log = logging.getLogger(__name__)


class FinalWeights(NamedTuple):
    """Which weights are exported, and their values by the places of the parameters; None: as the network has them.

    `name` is one of `EXPORTED_WEIGHTS`, `description` says it for readers.
    """

    name: str
    description: str
    arrays: Optional[Dict[str, mx.nd.NDArray]] = None


LAST = FinalWeights("last", "of the last update")


def find_average(hooks: Sequence[Hook]) -> Optional[EMA]:
    """Return the hook that averages the weights, if there is one."""
    return next((hook for hook in hooks if isinstance(hook, EMA)), None)


def exported_weights(recipe: Recipe, hooks: Sequence[Hook]) -> str:
    """Return which weights a run exports: what its recipe says, or the averaged ones if it evaluates them.

    Raises ValueError if there will be none of that kind.
    """
    average = find_average(hooks)
    if recipe.export_weights == "ema" and average is None:
        raise ValueError("export_weights is 'ema', but nothing averages the weights: add hooks.ema")
    return recipe.export_weights or ("last" if average is None else "ema")


def final_weights(state: TrainState, recipe: Recipe, hooks: Sequence[Hook]) -> FinalWeights:
    """Return the weights to export; the last ones, with a warning, if the best checkpoint cannot be read any more."""
    chosen, average = exported_weights(recipe, hooks), find_average(hooks)
    if chosen == "ema" and average is not None:
        return FinalWeights("ema", "averaged (EMA)", average.average)
    best: dict = next((hook.best for hook in hooks if isinstance(hook, Checkpoint)), {})
    if chosen != "best" or not best or best["update"] == state.update and not best["which"].startswith("ema_"):
        return LAST
    averaged = best["which"].startswith("ema_")
    try:
        arrays = read_weights(state.out / "checkpoints" / f"update-{best['update']:08d}", averaged)
    except (OSError, ValueError) as error:
        log.warning("the best weights cannot be exported, the last ones are (%s)", error)
        return LAST
    place = f"best by {best['which']}, {best['score']:.2%} at update {best['update']}"
    return FinalWeights("best", place + (" (EMA)" if averaged else ""), arrays)


@contextlib.contextmanager
def in_network(net: Block, arrays: Optional[Dict[str, mx.nd.NDArray]]) -> Iterator[None]:
    """Within it, a network has other weights, by the places of the parameters; None: its own."""
    params = net._collect_params_with_prefix()
    own = {key: params[key].data().copy() for key in arrays or ()}
    try:
        for key, array in (arrays or {}).items():
            params[key].set_data(array)
        yield
    finally:
        for key, array in own.items():
            params[key].set_data(array)
