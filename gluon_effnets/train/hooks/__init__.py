"""Hooks by their names in a recipe."""

from __future__ import annotations

from typing import Dict, List, Type

from ..registry import create
from .base import Hook
from .clip_gradients import ClipGradients
from .ema import EMA
from .mixup import Mixup
from .recompute_statistics import RecomputeStatistics
from .sparsify import Sparsify
from .tensorboard import TensorBoard

__all__ = ["HOOKS", "Hook", "make_hooks"]

HOOKS: Dict[str, Type[Hook]] = {
    "clip_gradients": ClipGradients,
    "ema": EMA,
    "mixup": Mixup,
    "recompute_statistics": RecomputeStatistics,
    "sparsify": Sparsify,
    "tensorboard": TensorBoard,
}


def make_hooks(settings: Dict[str, dict]) -> List[Hook]:
    """Return the hooks of a recipe in its order. Raises ValueError for an unknown name or option."""
    return [create("hook", HOOKS, name, options, f"hooks.{name}") for name, options in settings.items()]
