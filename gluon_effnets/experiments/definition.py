"""What an experiment is: networks that are trained alike but for what is asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .. import _resources
from ..files.schema import Check, list_of, one_of, optional, record, table_of, text, whole
from ..files.yaml_text import read_yaml
from .curve import COSTS

__all__ = ["Comparison", "Experiment", "list_experiments", "read_experiment"]


class Comparison(NamedTuple):
    """One of the networks that are compared.

    Attributes:
        name: As it is called in tables and pictures.
        model: The network's name.
        options: Options of the network beside the experiment's.
        settings: Keys of the recipe beside the experiment's, as --set takes them.
        recipe: Its own recipe; None for the experiment's.
        after: The comparison whose run with the same seed must be finished before; {after} in settings is its folder.
    """

    name: str
    model: str
    options: Dict[str, Any] = {}
    settings: Tuple[str, ...] = ()
    recipe: Optional[str] = None
    after: Optional[str] = None


class Experiment(NamedTuple):
    """An experiment as its file tells it.

    Attributes:
        name: Of the file.
        question: What it asks.
        chosen: How learning rate and length were chosen before the comparison, and on which network.
        data: The kind of its data: cifar10, digits, voc ...
        images: How many first images of a part are taken, {"train": 20000}; all of the parts that it does not name.
        recipe: A file of configs/.
        options: Options of all networks.
        settings: Keys of the recipe for all, as --set takes them.
        seeds: Of the runs.
        score: The key of result.json that is compared; shares are shown in %.
        baseline: The comparison that the others are compared with.
        comparisons: The networks by name.
        curve: The cost over which the score is drawn, too: params or madds; None: not drawn.
    """

    name: str
    question: str
    chosen: str
    data: str
    recipe: str
    seeds: Tuple[int, ...]
    baseline: str
    comparisons: Dict[str, Comparison]
    images: Dict[str, int] = {}
    options: Dict[str, Any] = {}
    settings: Tuple[str, ...] = ()
    score: str = "top1"
    curve: Optional[str] = None

    def overrides(self, comparison: Comparison, seed: int, after: str) -> List[str]:
        """What --set takes for a run; `after` is the folder of the run before it."""
        options = {**self.options, **comparison.options}
        given = [f"model_options.{key}={json.dumps(value)}" for key, value in options.items()]
        given += [setting.replace("{after}", after) for setting in (*self.settings, *comparison.settings)]
        return [*given, f"seed={seed}"]


def _anything(value: Any, where: str) -> None:
    """Options of networks are checked by the networks."""


_TEXTS: Check = list_of(text())
_COMPARISON = record(
    {"model": text()},
    {"options": table_of(_anything), "settings": _TEXTS, "recipe": optional(text()), "after": optional(text())},
)
_FILE = record(
    {
        "question": text(),
        "chosen": text(),
        "data": text(),
        "recipe": text(),
        "seeds": list_of(whole(0, 1_000_000), least=1),
        "baseline": text(),
        "comparisons": table_of(_COMPARISON),
    },
    {
        "images": table_of(whole(1, 100_000_000)),
        "options": table_of(_anything),
        "settings": _TEXTS,
        "score": text(),
        "curve": one_of(*COSTS),
    },
)


def list_experiments() -> List[str]:
    """The names of all experiments."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def _folder() -> Path:
    return _resources.folder("configs") / "experiments"


def read_experiment(name: str) -> Experiment:
    """Read an experiment by its name, or by the path of its file.

    Args:
        name: Of a file in configs/experiments, or a path.

    Raises:
        ValueError: There is none of this name, or its file is damaged.
    """
    path = Path(name) if name.endswith(".yaml") else _folder() / f"{name}.yaml"
    if not path.is_file() and not name.endswith(".yaml"):
        raise ValueError(f"there is no experiment {name!r}; there are {', '.join(list_experiments())}")
    content = read_yaml(path, "experiment")
    _FILE(content, path.name)
    comparisons = {
        key: Comparison(key, **{**given, "settings": tuple(given.get("settings", ()))})
        for key, given in content.pop("comparisons").items()
    }
    for key in ("seeds", "settings"):
        content[key] = tuple(content.get(key, ()))
    experiment = Experiment(path.stem, comparisons=comparisons, **content)
    named = [experiment.baseline, *(one.after for one in comparisons.values() if one.after)]
    unknown = [one for one in named if one not in comparisons]
    if unknown:
        raise ValueError(f"{path.name} names the comparison {unknown[0]!r}, which it does not have")
    return experiment
