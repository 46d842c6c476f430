"""Hooks by their names in a recipe."""

from __future__ import annotations

from typing import Dict, List

from ..registry import Registry
from .architecture import Architecture
from .base import Hook
from .clip_gradients import ClipGradients
from .drop_path import DropPath
from .ema import EMA
from .mixup import CutMix, Mixup
from .mlflow_runs import MLflow
from .recompute_statistics import RecomputeStatistics
from .sparsify import Sparsify
from .tensorboard import TensorBoard
from .wandb_runs import WandB

__all__ = ["HOOKS", "Hook", "make_hooks"]

HOOKS: Registry[Hook] = Registry(
    "hook",
    {
        "architecture": Architecture,
        "clip_gradients": ClipGradients,
        "cutmix": CutMix,
        "drop_path": DropPath,
        "ema": EMA,
        "mixup": Mixup,
        "mlflow": MLflow,
        "recompute_statistics": RecomputeStatistics,
        "sparsify": Sparsify,
        "tensorboard": TensorBoard,
        "wandb": WandB,
    },
    Hook,
)


def make_hooks(settings: Dict[str, dict]) -> List[Hook]:
    """Return the hooks of a recipe in its order.

    Args:
        settings: {name: options}, the name one of `HOOKS` or 'module:Name'.

    Raises:
        ValueError: An unknown name or option.
    """
    return [HOOKS.make(name, options, f"hooks.{name}") for name, options in settings.items()]
