"""What a folder of a training run says, to a search that goes on from it."""

from __future__ import annotations

from pathlib import Path

from ..files.mistakes import as_mistakes
from ..train.config import Recipe, load_recipe

__all__ = ["recipe_of"]


def recipe_of(run: Path, task: str, remedy: str) -> Recipe:
    """Return the recipe of a run folder of a task; `remedy` says what makes one.

    Raises:
        FileNotFoundError: There is no run.
        ValueError: It is of another task.
    """
    if not (run / "recipe.yaml").is_file():
        raise FileNotFoundError(f"{run} is no run folder: {remedy}")
    with as_mistakes("the recipe cannot be read"):
        recipe = load_recipe(run / "recipe.yaml")
    if recipe.task != task:
        raise ValueError(f"{run} was trained by the task {recipe.task}, not by {task} (docs/search.md)")
    return recipe
