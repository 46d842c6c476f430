"""Scores of choices by the weights of one trained one-shot network."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any, Dict

import mxnet as mx

from ..files.mistakes import as_mistakes
from ..models import get_model
from ..models.idle_paths import IdlePaths
from ..train.build import model_options
from ..train.config import Recipe
from ..train.data import open_data
from ..train.dist import Workers
from ..train.evaluation import evaluate
from ..train.metrics import classification_sums
from ..train.path_statistics import path_statistics, with_statistics
from ..train.pretrained import data_settings
from ..train.tasks.single_path import SIDES_OF
from .idle import IdleSpace
from .runs import recipe_of
from .space import Choice

__all__ = ["OneShot", "read_run"]


def read_run(run: Path) -> Recipe:
    """Return the recipe of a run folder of the task single_path.

    Raises:
        FileNotFoundError: There is no run, or it is not finished.
        ValueError: It is of another task.
    """
    recipe = recipe_of(run, "single_path", "train one by the task single_path first (docs/search.md)")
    if not (run / f"{recipe.file_name}.params").is_file():
        raise FileNotFoundError(f"the run in {run} is not finished: the command that began it goes on with it")
    return recipe


class OneShot:
    """A scorer: top1, top5 and loss of a choice by shared weights, after its BN statistics were computed anew.

    Args:
        space: Of the choices.
        run: A finished run folder of the task single_path.
        statistics_batches: Training batches that the statistics are averages over.

    Raises:
        ValueError: The run is of another network, or has not the sides of the space.
        FileNotFoundError: There is no finished run.

    Source: SPOS (arXiv 1904.00420), section 3.4, for the statistics.
    """

    def __init__(self, space: IdleSpace, run: Path, statistics_batches: int = 8):
        recipe = read_run(run)
        with as_mistakes(f"the run in {run}"):
            self._data = open_data(data_settings(recipe), seed=recipe.seed)
            self._net = get_model(recipe.model, **model_options(recipe, self._data))
            weights = run / f"{recipe.file_name}.params"
            self._net.load_parameters(str(weights))
        sides = SIDES_OF[recipe.task_options.get("sides", "left")]
        self._paths, self._space, self._batches = IdlePaths(self._net, sides), space, statistics_batches
        path = space.path(tuple(values[-1] for values in space.positions))
        fits = len(path) == len(self._paths.forms) and all(
            map(lambda form, forms: form in forms, path, self._paths.forms)
        )
        if not fits:
            raise ValueError(
                f"the one-shot network in {run} does not hold this space: it has {len(sides)} side(s) and "
                f"{len(self._paths.forms)} blocks; see --sides, --appended and --most"
            )
        self.about: Dict[str, Any] = {
            "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "data": self._data.settings.source,
            "statistics_batches": statistics_batches,
        }

    def __call__(self, choice: Choice) -> Dict[str, float]:
        """The scores of a choice over all evaluation images."""
        net = self._paths.net_of(self._space.path(choice))
        batches = itertools.islice(self._data.train_batches(0), self._batches)
        with with_statistics(path_statistics(net, (batch.data for batch in batches))):
            return evaluate(
                self._net,
                self._data,
                Workers(),
                mx.cpu(),
                lambda batch: classification_sums(net(batch.data), batch.label, batch.num_valid),
            )
