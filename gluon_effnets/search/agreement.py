"""How far scores agree with networks that were trained one by one, costs beside them as the baselines."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Dict, List

from ..experiments import Experiment, jobs_of
from ..tables import Table
from ..train.build import SMALL_IMAGE
from ..train.run_folder import RESULT, read_json
from .correlation import partial_rank_correlation, rank_correlation
from .idle import PlacementSpace
from .idle_search import SCORES, make_scorer
from .space import Choice

__all__ = ["agreement"]

_SUPERNET = "supernet"
_LEAST = 3


def agreement(experiment: Experiment, out: Path) -> Table:
    """Rank correlation of every score with the mean accuracy over the finished seeds of each network.

    Args:
        experiment: The comparison 'supernet' is the one-shot network; the others have `composition` in their options,
            {block: side}. All options are those of the experiment.
        out: The folder of its runs.

    Raises:
        ValueError: Fewer than three networks, or not the one-shot network, are finished.
    """
    accuracy: Dict[str, List[float]] = {}
    supernet = None
    for job in jobs_of(experiment, out):
        result = read_json(job.folder / RESULT)
        if result is None:
            continue
        if job.comparison.name == _SUPERNET:
            supernet = supernet or job.folder
        else:
            accuracy.setdefault(job.comparison.name, []).append(result[experiment.score])
    if supernet is None or len(accuracy) < _LEAST:
        raise ValueError(
            f"{len(accuracy)} networks {'and no' if supernet is None else 'beside the'} one-shot network are finished; "
            f"a correlation needs it and at least {_LEAST}: python -m gluon_effnets experiment {experiment.name}"
        )
    result = read_json(supernet / RESULT) or {}
    size = result["image_size"]
    # As `train.build.model_options` makes them for small images.
    options = {**({"stem_stride": 1} if size < SMALL_IMAGE else {}), **experiment.options}
    space = PlacementSpace(experiment.comparisons[_SUPERNET].model, options, size)
    choices = {name: _choice(space, experiment.comparisons[name].options) for name in accuracy}
    trained = [statistics.fmean(accuracy[name]) for name in choices]
    madds = [float(space.cost(choice).madds) for choice in choices.values()]
    rows = []
    for score in SCORES:
        scorer, key, _ = make_scorer(space, score, supernet if score == "one_shot" else None)
        found = [scorer(choice)[key] for choice in choices.values()]
        rows.append([score, rank_correlation(found, trained), partial_rank_correlation(found, trained, madds)])
    columns = ["score", (f"rank correlation, {len(choices)} networks", ".2f"), ("at equal MAdds", ".2f")]
    return Table(columns, rows)


def _choice(space: PlacementSpace, options: Dict) -> Choice:
    composition = options.get("composition") or {}
    composition = {} if composition == "none" else {int(number): side for number, side in composition.items()}
    return tuple(composition.get(number, "own") for number in space.blocks)
