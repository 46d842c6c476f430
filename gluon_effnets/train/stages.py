"""Runs of several stages: each a run in a folder of its own, with the weights that the one before ended with."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

import mxnet as mx
import yaml

from ..files.locks import alone_in
from ..files.write import make_folder, write_text
from ..files.yaml_text import read_yaml
from ..models.card import compare_names
from .build import Built
from .config import Recipe, differences
from .dist import Workers
from .run_folder import RESULT, read_json
from .state import StagePlace

__all__ = ["run_stages"]

log = logging.getLogger(__name__)


def run_stages(
    recipe: Recipe,
    out: Path,
    workers: Workers,
    build: Callable[..., Built],
    begin: Callable[[], None],
    train: Callable[..., None],
) -> None:
    """Train the stages of a recipe one after the other, in the folders `out`/<name of the stage>.

    All are built before the first begins, so that a mistake in the last one shows at once. A stage that is finished is
    passed over: the same command goes on with the one that was interrupted.
    `build(recipe, folder, workers)` makes what a stage needs, `begin()` the folder, and
    `train(recipe, folder, workers, place, start)` runs a stage.
    Raises what they raise, naming the stage.
    """
    stages = recipe.split()
    checked = {name: _check(name, stage, workers, build) for name, stage in stages.items()}
    _compare_classes(checked)
    begin()
    if workers.is_writer:
        write_text(out / "recipe.yaml", yaml.safe_dump(recipe.as_dict(), sort_keys=False))
    # Once for all: Horovod mixes up exchanges of the same name that follow each other at once.
    done = [name for name in stages if _is_finished(out / name, recipe)]
    finished = workers.broadcast_object(done, "finished stages")
    updates_before, start = 0, None
    for number, (name, stage) in enumerate(stages.items(), start=1):
        folder, is_last = out / name, number == len(stages)
        if workers.is_writer:
            print(f"\nstage {number} of {len(stages)}, {name}{': finished' if name in finished else ''}", flush=True)
            make_folder(folder)
            if name in finished:
                _warn_of_changes(name, stage, folder)
        if name not in finished:
            # It may be the run folder of another run, too.
            with alone_in(folder) if workers.is_writer else contextlib.nullcontext():
                train(stage, folder, workers, StagePlace(name, updates_before, is_last), start)
            _let_go()
        updates_before, start = updates_before + checked[name].updates, folder / f"{recipe.file_name}.params"
    if workers.is_writer:
        results = {name: read_json(out / name / RESULT) for name in stages}
        write_text(out / RESULT, json.dumps({"model": recipe.model, "stages": results}, indent=1) + "\n")


def _is_finished(folder: Path, recipe: Recipe) -> bool:
    """Whether a stage has left all that it should, the next one's weights among it; another run's result is none."""
    result = read_json(folder / RESULT) or {}
    complete = result.get("model") == recipe.model and "updates" in result
    return complete and (folder / f"{recipe.file_name}.params").is_file()


class _Checked(NamedTuple):
    """What is known of a stage before it begins: its number of updates, and the classes of its data."""

    updates: int
    num_classes: int
    class_names: Optional[List[str]]


def _compare_classes(checked: Dict[str, _Checked]) -> None:
    """Raise ValueError, naming the stage, where the data of two stages have other classes, or their names swapped."""
    (first, known), *others = checked.items()
    for name, stage in others:
        difference = compare_names(known.class_names, stage.class_names)
        if difference is None and known.num_classes != stage.num_classes:
            difference = f"there were {known.num_classes}, now there are {stage.num_classes}"
        if difference:
            raise ValueError(
                f"stage {name}: the classes of its data are others than in stage {first}: {difference}; "
                "all stages train one network, give all of them the same classes in the same order"
            )
        if known.class_names is None:
            first, known = name, stage


def _check(name: str, stage: Recipe, workers: Workers, build: Callable[..., Built]) -> _Checked:
    """Build a stage for its errors."""
    with tempfile.TemporaryDirectory(prefix="gluon_effnets-") as folder:
        try:
            built = build(stage, Path(folder), workers)
            for hook in built.hooks.recipe:
                hook.train_begin(built.state)
        except (ValueError, OSError, ImportError) as error:
            raise type(error)(f"stage {name}: {error}") from error
    data = built.state.data
    found = _Checked(built.state.total_updates, data.num_classes, data.class_names)
    del built, data
    _let_go()
    return found


def _let_go() -> None:
    """Free the networks that are not needed any more, which are in cycles of references."""
    # Horovod refuses an exchange under the name of one that is still under way, and stages use the same names.
    mx.nd.waitall()
    gc.collect()


def _warn_of_changes(name: str, stage: Recipe, folder: Path) -> None:
    """Tell what of a finished stage's recipe is another one now."""
    try:
        record = read_yaml(folder / "recipe.yaml", "recipe")
    except (OSError, ValueError):
        log.warning("stage %s is finished, but its recipe.yaml cannot be read", name)
        return
    for line in differences(record if isinstance(record, dict) else {}, stage.as_dict()):
        log.warning("stage %s is finished: the change of %s has no effect on it; --fresh starts over", name, line)
