"""Tasks: what one step of training computes, and what one batch of evaluation."""

from __future__ import annotations

import difflib
from typing import Dict, Type

from .base import Task
from .classification import Classification

__all__ = ["TASKS", "Classification", "Task", "make_task"]

TASKS: Dict[str, Type[Task]] = {"classification": Classification}


def make_task(name: str, options: dict) -> Task:
    """Return the task of a recipe. Raises ValueError for an unknown name or option."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, 1, 0)[0]
        raise ValueError(f"unknown task {name!r}; did you mean {near!r}?")
    try:
        return TASKS[name](**options)
    except TypeError as error:
        raise ValueError(f"task_options of {name}: {str(error).split(') ')[-1]}") from None
