"""The search for cells: a run of the task `darts`, and what follows from the cells that it ends with."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..files.mistakes import as_mistakes
from ..files.write import write_text
from ..models.darts import AUXILIARY_SIDE, DARTS_V2, MOBILENEXT_CELLS
from ..models.darts_search import operations_of
from ..models.genotype import Genotype, read_genotype
from ..train.config import Recipe, find_recipe, load_recipe
from ..train.exit_codes import FINISHED
from ..train.hooks.architecture import GENOTYPE, HISTORY
from ..train.run import main
from ..train.run_folder import read_json
from .cell_pictures import draw_architecture, draw_cells
from .cells import CellSpace, share_of
from .report import Found, Row, front, search_table, write_winner
from .runs import recipe_of
from .space import Choice

__all__ = ["CellRequest", "found_cells", "search_cells"]

RECIPE, TRAINING = "darts_search", "cifar_darts_v2"
_PUBLISHED = {"DARTS_V2": DARTS_V2, "MobileNeXt": MOBILENEXT_CELLS}
_STRIDE = 4  # of the last stage


@dataclasses.dataclass(frozen=True)
class CellRequest:
    """What is searched.

    space : a name of `gluon_effnets.models.darts_search.SPACES`.
    data : `KIND[:PATH]`, of images in memory.
    out : the folder of the run.
    order : of the gradient, 1 or 2.
    epochs : None: as the recipe says.
    seed : of weights and batches.
    options : of the search network: `channels`, `layers`, `nodes`.
    overrides : of the recipe, as --set takes them.
    """

    space: str
    data: str
    out: Path
    order: int = 1
    epochs: Optional[int] = None
    seed: int = 0
    options: Dict[str, Any] = dataclasses.field(default_factory=dict)
    overrides: Sequence[str] = ()


def search_cells(request: CellRequest) -> Tuple[int, Optional[Found]]:
    """Run a search, or go on with it; return the exit code of the run and, if it is finished, what it found.

    The folder then holds, beside what every run leaves, the cells (`genotype.yaml`), both pictures, `winner.yaml`,
    `table.csv` and `search.json`.

    Raises:
        ValueError: There is no such space.
    """
    operations_of(request.space)
    given = {"space": request.space, **request.options}
    overrides = [f"model_options.{key}={json.dumps(value)}" for key, value in given.items()]
    overrides += [f"task_options.order={request.order}", f"seed={request.seed}"]
    overrides += [] if request.epochs is None else [f"duration={request.epochs}ep"]
    args = argparse.Namespace(
        config=str(find_recipe(RECIPE)),
        model=None,
        data=request.data,
        overrides=[*overrides, *request.overrides],
        out=str(request.out),
        hvd=False,
        restarts=0,
        fresh=False,
    )
    code = main(args)
    return code, found_cells(request.out) if code == FINISHED else None


def found_cells(out: Path) -> Found:
    """Return what a finished run of the task `darts` found, and write the files that follow from it.

    Raises:
        FileNotFoundError: There is no such run, or it has not ended its first epoch.
        ValueError: It is of another task.
    """
    recipe = recipe_of(out, "darts", f"search darts --out {out} makes it")
    history = read_json(out / HISTORY)
    if history is None:
        raise FileNotFoundError(f"{out} has no {HISTORY}: its first epoch has not ended")
    genotype, options = read_genotype(out / GENOTYPE), recipe.model_options
    kept = {key: options[key] for key in ("sandglass_ratio",) if key in options}
    space = CellSpace(options.get("space", "darts"), genotype.nodes, kept, recipe.data.image_size)
    with as_mistakes(f"{out / HISTORY} is damaged"):
        found = _found(space, genotype, history)
        draw_architecture(history, out / "architecture.png")
    draw_cells(genotype, out / "cells.png")
    choice = space.choice_of(genotype)
    training, chosen = _training(recipe, space.recipe(choice))
    write_winner(training, chosen, found.winner.label, out / "winner.yaml")
    write_text(out / "table.csv", search_table(found.rows, "share", "cells").csv() + "\n")
    rows = [row._asdict() for row in found.rows]
    content = {
        "space": options.get("space", "darts"),
        "genotype": genotype.as_dict(),
        "rows": rows,
        "said": found.lines,
    }
    write_text(out / "search.json", json.dumps(content, indent=1) + "\n")
    return found


def _found(space: CellSpace, genotype: Genotype, history: Dict[str, Any]) -> Found:
    last, operations = history["epochs"][-1], history["operations"]
    # The file has shares, of which the logarithms are weights with these shares.
    normal, reduce = (np.log(np.maximum(np.array(last[cell], float), 1e-9)) for cell in ("normal", "reduce"))

    def row(choice: Choice, *rules: str) -> Row:
        cost = space.cost(choice)
        share = share_of(space.genotype(choice), normal, reduce, operations)
        return Row(space.label(choice), cost.params, cost.madds, None, share, rules)

    rows = [row(space.choice_of(genotype), "found")]
    for name, cells in _PUBLISHED.items():
        if cells.nodes == space.nodes and {edge.operation for cell in cells for edge in cell} <= set(space.operations):
            rows.append(row(space.choice_of(cells), name))
    return Found(rows, front(rows), rows[0], _lines(genotype, operations))


def _lines(genotype: Genotype, operations: Sequence[str]) -> List[str]:
    lines = []
    for name, edges in zip(("normal", "reduction"), genotype):
        chosen = [edge.operation for edge in edges]
        counts = [f"{chosen.count(one)} {one}" for one in operations if one in chosen]
        lines.append(f"{name} cell: {', '.join(counts)}")
    lines.append("costs are of 20 cells of 36 channels; a share says what the search preferred, not what is better")
    return lines


def _training(searched: Recipe, choice: Dict[str, Any]) -> Tuple[Recipe, Dict[str, Any]]:
    """The recipe that trains cells on the images of their search, and the network with what this recipe needs."""
    shipped = load_recipe(find_recipe(TRAINING, "cifar10"))
    data = dataclasses.replace(searched.data, kept_back=0.0, batch_size=shipped.data.batch_size)
    recipe, options = dataclasses.replace(shipped, data=data), choice["model_options"]
    if data.image_size < AUXILIARY_SIDE * _STRIDE:
        # The map is too small for the auxiliary classifier.
        recipe = dataclasses.replace(recipe, task="classification", task_options={})
    else:
        options = {**options, "auxiliary": True}
    return recipe, {**choice, "model_options": options}
