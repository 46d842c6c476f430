"""Latency of a placement as a sum: what each block alone saves, measured once, and checked on whole networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..benchmarks.latency import Settings, measure
from ..files.side_json import read_json
from ..files.write import write_text
from ..models import get_model
from .idle import PlacementSpace
from .space import Choice

__all__ = ["LatencyTable", "kept_table", "latency_table"]


class LatencyTable(NamedTuple):
    """Milliseconds of an image.

    Attributes:
        base_ms: Of the network without IdleBlocks.
        saved_ms: {(place, form): what this IdleBlock alone saves}, negative where it is slower.
        checked: (predicted, measured) of whole networks.
        conditions: Of the measurement.
    """

    base_ms: float
    saved_ms: Dict[Tuple[int, str], float]
    checked: List[Tuple[float, float]]
    conditions: Dict[str, Any]

    def of(self, choice: Choice) -> float:
        """The latency of a choice by the table."""
        return self.base_ms - sum(self.saved_ms[key] for key in enumerate(choice) if key[1] != "own")

    def error(self) -> str:
        """How far the table is from the whole networks it was checked on, in one sentence."""
        parts = [predicted / measured - 1 for predicted, measured in self.checked]
        return (
            f"latency by the table against {len(parts)} whole networks: mean error {np.mean(np.abs(parts)):.1%}, "
            f"largest {max(map(abs, parts)):.1%}"
        )


def latency_table(
    space: PlacementSpace, runtime: str, repeats: int = 40, num_checked: int = 10, seed: int = 0
) -> LatencyTable:
    """Measure a table: networks with one IdleBlock, with all, and with all but one; beside them `num_checked` others.

    The table is what fits them best: from single IdleBlocks alone, an error of the baseline's time would enter once per
    block. All networks are measured in turn.

    Args:
        space: Of the placements.
        runtime: Of `benchmark latency`: 'onnxruntime', 'mxnet-fused' ...
        repeats: Of each network; the least of them counts.
        num_checked: Random placements that the sums are compared with.
        seed: Draws them.

    Raises:
        ValueError: The runtime is unknown, or cannot be measured here.
    """
    own = ("own",) * len(space.blocks)
    keys = [(place, form) for place in range(len(own)) for form in space.sides]
    single = [(*own[:place], form, *own[place + 1 :]) for place, form in keys]
    filled = [(form,) * len(own) for form in space.sides]
    but_one = [(*full[:place], "own", *full[place + 1 :]) for full in filled for place in range(len(own))]
    fitted: Sequence[Choice] = list(dict.fromkeys([own, *single, *filled, *but_one]))
    checked = _others(space, fitted, num_checked, np.random.RandomState(seed))
    choices: Sequence[Choice] = [*fitted, *checked]
    nets = {" ".join(choice): _net(space, choice) for choice in choices}
    size = (space.image_size, space.image_size)
    found = measure(nets, Settings(runtimes=[runtime], image_size=size, repeats=repeats))
    ms = {row["model"]: row["minimum_ms"] for row in found["rows"]}
    missing = [name for name in nets if name not in ms]
    if missing:
        raise ValueError(f"{runtime} could not be measured: {'; '.join(found['left_out'])[:300]}")
    places = [[1.0, *(-float(choice[place] == form) for place, form in keys)] for choice in fitted]
    times = [ms[" ".join(choice)] for choice in fitted]
    base, *values = np.linalg.lstsq(np.array(places), np.array(times), rcond=None)[0].tolist()
    saved = dict(zip(keys, values))
    table = LatencyTable(base, saved, [], found["conditions"])
    return table._replace(checked=[(table.of(choice), ms[" ".join(choice)]) for choice in checked])


def _others(
    space: PlacementSpace, fitted: Sequence[Choice], number: int, random: np.random.RandomState
) -> List[Choice]:
    """Random choices that the table was not made from, as many as there are."""
    draws = (space.sample(random) for _ in range(100 * number))
    return list(dict.fromkeys(choice for choice in draws if choice not in fitted))[:number]


def _net(space: PlacementSpace, choice: Choice):
    recipe = space.recipe(choice)
    return get_model(recipe["model"], **recipe["model_options"])


def kept_table(space: PlacementSpace, runtime: str, path: Path, repeats: int = 40) -> LatencyTable:
    """Return the table in a file, measured and written if it is not there.

    Raises ValueError for the table of another search, and as `latency_table`.
    """
    about = {"base": space.base, "options": space.options, "image_size": space.image_size, "sides": list(space.sides),
             "runtime": runtime}  # fmt: skip
    if path.is_file():
        content = read_json(path)
        if not isinstance(content, dict) or content.get("about") != json.loads(json.dumps(about)):
            raise ValueError(f"{path} is the table of another search: give another folder by --out")
        saved = {(place, form): ms for place, form, ms in content["saved_ms"]}
        return LatencyTable(content["base_ms"], saved, [tuple(p) for p in content["checked"]], content["conditions"])
    table = latency_table(space, runtime, repeats)
    content = {**table._asdict(), "about": about, "saved_ms": [[*key, ms] for key, ms in table.saved_ms.items()]}
    write_text(path, json.dumps(content, indent=1) + "\n")
    return table
