"""Recipes: strict, flat YAML files with typed sections, and overrides from the command line."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import typing
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from .. import _resources
from .._foreign import is_foreign
from ..detection import is_detector
from ..files.text import shortened, shown
from ..files.yaml_text import parse_yaml, read_yaml
from ..models import list_models, model_info
from .data import DataSettings
from .watchdog import TIMEOUT_S

__all__ = [
    "DistributedSettings",
    "OptimizerSettings",
    "Recipe",
    "ScheduleSettings",
    "differences",
    "find_recipe",
    "load_recipe",
    "recipe_path",
]

UNSET = "???"
_MOST_SECTIONS = 8
# Of a run's last update, of its best checkpoint, or the moving average of the hook `ema`.
OWN_BOXES = "own_boxes.yaml"  # a recipe for any detector
_OF_KIND = {"folder": "own_images", **dict.fromkeys(("voc", "coco", "detrec"), "own_boxes")}
EXPORTED_WEIGHTS = ("last", "best", "ema")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Which optimizer, and its learning rate.

    The learning rate in force is `lr` * global batch / `lr_for_batch` (global batch = data.batch_size x workers x
    accumulate); with `lr_for_batch: null` it is `lr` itself.
    `decay_all: false` leaves biases and the gamma and beta of normalization layers without weight decay.
    `options` go to the optimizer (momentum, beta1, warmup_strategy, ...).
    `lr_factors` are factors of the rate for parts of the network, {pattern: factor} (train/parts.py).

    Attributes:
        name: Of the optimizer.
        lr: Learning rate at `lr_for_batch`.
        lr_for_batch: Global batch to which `lr` belongs, or None.
        weight_decay: Factor of the weights in their gradient.
        decay_all: Whether biases, gamma and beta have weight decay, too.
        lr_factors: {pattern of parameters: factor of the rate}.
        options: Of the optimizer.
    """

    name: str = "nag"
    lr: float = 0.1
    lr_for_batch: Optional[int] = None
    weight_decay: float = 0.0
    decay_all: bool = False
    lr_factors: Dict[str, Any] = dataclasses.field(default_factory=dict)
    options: Dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """Learning rate over the run, per update: a linear warm-up from `warmup_from` * lr, then a schedule.

    One of cosine, linear or poly (of this `power`; to `final` * lr, where it stays for the last `cooldown`), step
    (times `factor` at each of `steps`), exponential (times `factor` every `every`, at once or, without `staircase`,
    little by little), constant, or 'module:function' with `options` (train/schedules.py).

    Attributes:
        name: Of the schedule.
        warmup, cooldown, every: Durations.
        warmup_from, final: Shares of the rate.
        power: Of poly.
        steps: Durations from the begin of the run.
        factor: Of step and exponential.
        staircase: Whether exponential falls at once.
        options: Of a schedule from elsewhere.
    """

    name: str = "cosine"
    warmup: str = "0ep"
    warmup_from: float = 0.0
    final: float = 0.0
    cooldown: str = "0ep"
    power: float = 2.0
    steps: Tuple[str, ...] = ()
    factor: float = 0.1
    every: str = "1ep"
    staircase: bool = True
    options: Dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DistributedSettings:
    """How several workers train together: gradients travel as they are (`compression: none`) or as float16 (`fp16`).

    A worker without progress for `timeout_s` seconds ends the job; 0 is no limit. As long as its process computes,
    reads or writes, it makes progress; within an update, for ten times as long at most.

    Attributes:
        compression: 'none' or 'fp16'.
        timeout_s: Seconds; 0: no limit.
    """

    compression: str = "none"
    timeout_s: float = TIMEOUT_S

    def __post_init__(self):
        if self.compression not in ("none", "fp16"):
            raise ValueError(f"distributed.compression is {shortened(self.compression)}; choose none or fp16")
        if self.timeout_s < 0:
            raise ValueError(f"distributed.timeout_s is {self.timeout_s:g}; it must be at least 0 (0: no limit)")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One training run. Every key of a recipe file is a field here; unknown keys are refused.

    `freeze` names the parts of the network that stay as they are (train/parts.py).
    `model`, `task`, the keys of `hooks`, `optimizer.name` and `schedule.name` may name code outside of the package as
    'module:name'.
    With mixed precision, `max_skipped_updates` in a row, whose gradients are not finite, end the run (0: never).
    `export_weights` says which weights the run exports; null: the averaged ones where the hook `ema` evaluates them.
    `report_page` says whether the run ends with a page about it.
    `stages` make it several runs, each with the weights of the one before: the same run with the keys that a stage has
    in place of those of the recipe. Of `data` only the given settings are replaced. `split` gives these runs.

    Attributes:
        model, model_options: The network, and options of its constructor.
        pretrained: Weights to begin with, or None.
        freeze: Parts that stay as they are.
        task, task_options: What one step computes.
        data: DataSettings.
        duration: Of the run.
        accumulate: Batches of an update.
        precision: 'float32', 'float16' or 'bfloat16'.
        max_skipped_updates: In a row; 0: never the end.
        optimizer: OptimizerSettings.
        schedule: ScheduleSettings.
        hooks: {name: options}.
        evaluate_every, checkpoint_every: Durations.
        export_weights: Which weights are exported, or None.
        report_page: Whether the run ends with a page about it.
        distributed: DistributedSettings.
        seed: Of all that is random.
        stages: Keys of several runs.
    """

    model: str = UNSET
    model_options: Dict[str, Any] = dataclasses.field(default_factory=dict)
    pretrained: Optional[str] = None
    freeze: Tuple[str, ...] = ()
    task: str = "classification"
    task_options: Dict[str, Any] = dataclasses.field(default_factory=dict)
    data: DataSettings = DataSettings()
    duration: str = "10ep"
    accumulate: int = 1
    precision: str = "float32"
    max_skipped_updates: int = 20
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    hooks: Dict[str, Dict[str, Any]] = dataclasses.field(default_factory=dict)
    evaluate_every: str = "1ep"
    checkpoint_every: str = "1ep"
    export_weights: Optional[str] = None
    report_page: bool = True
    distributed: DistributedSettings = DistributedSettings()
    seed: int = 0
    stages: Tuple[Dict[str, Any], ...] = ()

    def __post_init__(self):
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}; it must be at least 1")
        if self.max_skipped_updates < 0:
            raise ValueError(f"max_skipped_updates is {self.max_skipped_updates}; it must be at least 0 (0: no limit)")
        if self.export_weights not in (None, *EXPORTED_WEIGHTS):
            raise ValueError(
                f"export_weights is {shortened(self.export_weights)}; choose {', '.join(EXPORTED_WEIGHTS)}"
            )
        names = [_stage_name(stage) for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"the stages are called {', '.join(names)}; give each a name of its own")

    @property
    def file_name(self) -> str:
        """How the files of its network begin: the model's name, without the module of one from outside."""
        return self.model.rpartition(":")[2]

    def as_dict(self) -> Dict[str, Any]:
        """Plain dictionaries, lists and numbers, as they go into a YAML file; without `stages` if there are none."""
        values = _plain(dataclasses.asdict(self))
        return values if self.stages else {key: value for key, value in values.items() if key != "stages"}

    def split(self) -> Dict[str, Recipe]:
        """Return {name of a stage: its recipe} in order, {"": this recipe} without stages.

        Raises:
            ValueError: A stage has a key that it cannot have, or a value of the wrong type.
        """
        if not self.stages:
            return {"": self}
        common, parts = dataclasses.replace(self, stages=()), {}
        for stage in self.stages:
            name = _stage_name(stage)
            values = {key: value for key, value in stage.items() if key != "name"}
            _refuse_unknown(values, STAGE_KEYS, f"stages.{name}.")
            if isinstance(values.get("data"), dict):
                values["data"] = {**common.as_dict()["data"], **values["data"]}
            parts[name] = _build(Recipe, {**common.as_dict(), **values}, f"stages.{name}.")
        return parts


# What belongs to the network or to the whole process is common to all stages.
STAGE_KEYS = ("freeze", "task", "task_options", "data", "duration", "accumulate", "optimizer", "schedule", "hooks",
              "evaluate_every", "checkpoint_every", "export_weights")  # fmt: skip


def _stage_name(stage: Any) -> str:
    name = stage.get("name") if isinstance(stage, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ValueError(f"each of stages needs a name of letters and digits (name: supernet), not {shortened(name)}")
    return name


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def find_recipe(model: Optional[str], kind: Optional[str] = None) -> Path:
    """Return the recipe for a model on a kind of data: <model>.<kind>.yaml, else <kind>.yaml, else <model>.yaml.

    <kind>.yaml of folders is own_images.yaml, of images with boxes own_boxes.yaml: those who have such data rarely
    have the cluster of a paper.

    Args:
        model: Name of the model; None: any.
        kind: "cifar10", "digits", ...; None: any. One of the two must be given.

    Raises:
        FileNotFoundError: There is none; the text names what was looked for.
    """
    of_kind = _OF_KIND.get(kind, kind) if kind else None
    names = [f"{model}.{kind}", of_kind or "", model] if model and kind else [model or of_kind or ""]
    for name in names:
        path = _resources.folder("configs") / f"{name}.yaml"
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"no recipe {' or '.join(f'{name}.yaml' for name in names)} in {_resources.folder('configs')}.\n"
        f"Any recipe goes with any model; {_near_recipe(names[0], model)}"
    )


def recipe_path(named) -> Path:
    """Return the path of a recipe: the named file, or the one of that name that comes with the package.

    Args:
        named: A path, or the name of a file in configs/.
    """
    path = Path(named)
    shipped = _resources.folder("configs") / path.name
    return shipped if not path.exists() and shipped.is_file() else path


def _near_recipe(name: str, model: Optional[str] = None) -> str:
    """What to add to a command instead of a recipe `name` that is not there: the one of the nearest name that is.

    Of the family of `model`, if that has any; of a detector the one for any. Raises ValueError for an unknown model.
    """
    if model and is_detector(model):
        return f"for instance: add --config {_resources.folder('configs') / OWN_BOXES}"
    related: List[str] = []
    if model and not is_foreign(model):
        related = list_models(family=model_info(model).family, has_recipe=True)
    files = [model_info(other).recipes[0] for other in related]
    why = "of the same family" if files else "for instance"
    if not files:
        every = sorted(path.name for path in _resources.folder("configs").glob("*.yaml"))
        files = [file for file in every if model is None or not _is_of_detectors(file)]
    near = difflib.get_close_matches(name[:100], files, 1, 0)
    return f"{why}: add --config {_resources.folder('configs') / near[0]}" if near else "none comes with this package"


def _is_of_detectors(file: str) -> bool:
    """Whether a recipe of this package, by the name of its file, is for detectors."""
    return file in (OWN_BOXES, "scattered_digits.yaml") or is_detector(file.partition(".")[0])


def load_recipe(path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply overrides.

    Args:
        path: Of the file; None: all defaults.
        overrides: Texts of the form 'section.key=value', the value in YAML.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: An unknown key, a value of the wrong type, or one that is still to be set (???).

    Example:
        load_recipe("configs/digits.yaml", ["model=idle_mbv3_small", "optimizer.lr=0.05"])
    """
    tree = _read(recipe_path(path)) if path else {}
    for override in overrides:
        _set(tree, override)
    recipe = _build(Recipe, tree, "")
    recipe.split()  # which refuses what is wrong in a stage
    unset = [key for key, value in _leaves(recipe.as_dict()) if value == UNSET and key != "data.source"]
    if unset:
        raise ValueError(f"{path} leaves {', '.join(unset)} to you: add --set {unset[0]}=...")
    return recipe


def _read(path: Path) -> dict:
    if not path.exists():
        raise FileNotFoundError(f"no recipe {path}; {_near_recipe(path.name)}")
    tree = read_yaml(path, "recipe")
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ValueError(f"{path} is not a recipe: it must hold keys and values")
    return tree


def _set(tree: dict, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ValueError(f"--set {shortened(override)} is not of the form section.key=value")
    *sections, leaf = _parts(key)
    if len(sections) > _MOST_SECTIONS:
        raise ValueError(f"--set {shown(override)} names sections within sections, deeper than {_MOST_SECTIONS}")
    _refuse_hidden(tree, sections[0] if sections else leaf, key)
    for depth, section in enumerate(sections):
        if isinstance(tree, list):
            tree = _stage_called(tree, section, key)
            continue
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict) and not (isinstance(tree, list) and (depth, section) == (0, "stages")):
            raise ValueError(f"--set {shown(override)}: {shortened(section)} is a value, not a section")
    if not isinstance(tree, dict):
        raise ValueError(f"--set {shown(override)} is not of the form stages.NAME.key=value")
    tree[leaf] = parse_yaml(text, f"--set {shown(override)}")


def _parts(key: str) -> List[str]:
    """Split a key at its dots, but for those within the name of a hook from outside: hooks.mypkg.swa:SWA.decay."""
    parts = key.split(".")
    if "hooks" in parts:
        first = parts.index("hooks") + 1
        ends = [place + 1 for place, part in enumerate(parts) if ":" in part and place >= first]
        if ends:
            parts[first : ends[0]] = [".".join(parts[first : ends[0]])]
    return parts


def _stage_called(stages: list, name: str, key: str) -> Any:
    for stage in stages:
        if isinstance(stage, dict) and stage.get("name") == name:
            return stage
    names = ", ".join(str(stage.get("name")) for stage in stages if isinstance(stage, dict))
    raise ValueError(f"--set {shown(key)}: there is no stage {shortened(name)}; the stages are {names}")


def _refuse_hidden(tree: dict, section: str, key: str) -> None:
    """Refuse a change of what every stage replaces, which would have no effect."""
    stages = [stage for stage in tree.get("stages") or () if isinstance(stage, dict)]
    if stages and section != "data" and all(section in stage for stage in stages):
        names = " or ".join(f"stages.{stage.get('name')}.{key}" for stage in stages)
        raise ValueError(f"--set {key} has no effect, as every stage has its own {section}: set {names}")


def _leaves(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        # An empty section within another one says something: a hook with its defaults.
        if isinstance(value, dict) and (value or not prefix):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _build(cls, tree: Any, where: str):
    """Make the dataclass `cls` from a mapping, checking keys and types; `where` is its place in the recipe."""
    if not isinstance(tree, dict):
        raise ValueError(f"{where or 'the recipe'} must be a section with keys, not {shortened(tree)}")
    types = typing.get_type_hints(cls)
    if cls is Recipe and isinstance(tree.get("freeze"), str):
        tree = {**tree, "freeze": [tree["freeze"]]}
    _refuse_unknown(tree, types, where)
    return cls(**{key: _convert(types[key], value, f"{where}{key}") for key, value in tree.items()})


def _refuse_unknown(keys: Iterable, known: Iterable[str], where: str) -> None:
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key)[:100], known, 1, 0)[0]
            raise ValueError(f"unknown recipe key {where}{shown(str(key))}; did you mean {where}{near}?")


def _convert(kind, value, where: str):
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{where}.")
    if origin is typing.Union:  # Optional[...]
        return None if value is None else _convert(arguments[0], value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: {} if item is None and arguments[1] is not Any else item for key, item in value.items()}
    if kind is float and not isinstance(value, bool):
        try:
            number = float(value)  # YAML 1.1 reads 3e-5 as a text
            if math.isfinite(number):
                return number
        except (TypeError, ValueError, OverflowError):
            pass
    elif kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    elif isinstance(value, kind if origin is None else origin) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where} must be {_type_name(kind)}, not {shortened(value)}")


def _type_name(kind) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind, "a list" if typing.get_origin(kind) is tuple else "a section with keys")


def differences(old: dict, new: dict) -> List[str]:
    """Lines 'key: old -> new' for all keys in which two recipes (as_dict) differ.

    Args:
        old, new: What `as_dict` gives.
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
