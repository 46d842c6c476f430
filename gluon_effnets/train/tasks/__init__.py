"""Tasks: what one step of training computes, and what one batch of evaluation."""

from __future__ import annotations

from typing import Any, Dict

from ..registry import Registry
from .auxiliary import Auxiliary
from .base import Task
from .classification import Classification
from .darts import Darts
from .detection import Detection
from .distill import Distill
from .gate import Gate
from .recalibrate import Recalibrate
from .single_path import SinglePath
from .slimmable import Slimmable

__all__ = [
    "TASKS",
    "Auxiliary",
    "Classification",
    "Darts",
    "Detection",
    "Distill",
    "Gate",
    "Recalibrate",
    "SinglePath",
    "Slimmable",
    "Task",
    "make_task",
]

TASKS: Registry[Task] = Registry(
    "task",
    {
        "auxiliary": Auxiliary,
        "classification": Classification,
        "darts": Darts,
        "detection": Detection,
        "distill": Distill,
        "gate": Gate,
        "recalibrate": Recalibrate,
        "single_path": SinglePath,
        "slimmable": Slimmable,
    },
    Task,
)


def make_task(name: str, options: Dict[str, Any]) -> Task:
    """Return the task of a recipe.

    Args:
        name: One of `TASKS`, or 'module:Name'.
        options: The section `task_options`.

    Raises:
        ValueError: An unknown name or option.
    """
    return TASKS.make(name, options, f"task_options of {name}")
