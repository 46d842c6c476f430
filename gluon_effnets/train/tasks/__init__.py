"""Tasks: what one step of training computes, and what one batch of evaluation."""

from __future__ import annotations

from typing import Dict, Type

from ..registry import create
from .base import Task
from .classification import Classification
from .gate import Gate
from .recalibrate import Recalibrate
from .slimmable import Slimmable

__all__ = ["TASKS", "Classification", "Gate", "Recalibrate", "Slimmable", "Task", "make_task"]

TASKS: Dict[str, Type[Task]] = {
    "classification": Classification,
    "gate": Gate,
    "recalibrate": Recalibrate,
    "slimmable": Slimmable,
}


def make_task(name: str, options: dict) -> Task:
    """Return the task of a recipe. Raises ValueError for an unknown name or option."""
    return create("task", TASKS, name, options, f"task_options of {name}")
