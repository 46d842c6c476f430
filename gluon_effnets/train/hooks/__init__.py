"""Hooks by their names in a recipe."""

from __future__ import annotations

import difflib
from typing import Dict, List, Type

from .base import Hook
from .clip_gradients import ClipGradients
from .ema import EMA
from .mixup import Mixup
from .tensorboard import TensorBoard

__all__ = ["HOOKS", "Hook", "make_hooks"]

HOOKS: Dict[str, Type[Hook]] = {
    "clip_gradients": ClipGradients,
    "ema": EMA,
    "mixup": Mixup,
    "tensorboard": TensorBoard,
}


def make_hooks(settings: Dict[str, dict]) -> List[Hook]:
    """Return the hooks of a recipe in its order. Raises ValueError for an unknown name or option."""
    hooks = []
    for name, options in settings.items():
        if name not in HOOKS:
            near = difflib.get_close_matches(name, HOOKS, 1, 0)[0]
            raise ValueError(f"unknown hook {name!r} in hooks; did you mean {near!r}?")
        try:
            hooks.append(HOOKS[name](**options))
        except TypeError as error:
            raise ValueError(f"hooks.{name}: {str(error).split(') ')[-1]}") from None
    return hooks
