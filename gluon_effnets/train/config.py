"""Recipes: strict, flat YAML files with typed sections, and overrides from the command line."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import yaml

from .. import _resources
from ..models import list_models, model_info
from .data import DataSettings

__all__ = [
    "DistributedSettings",
    "OptimizerSettings",
    "Recipe",
    "ScheduleSettings",
    "differences",
    "find_recipe",
    "load_recipe",
]

UNSET = "???"


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Which optimizer, and its learning rate.

    The learning rate in force is `lr` * global batch / `lr_for_batch` (global batch = data.batch_size x workers x
    accumulate); with `lr_for_batch: null` it is `lr` itself.
    `decay_all: false` leaves biases and the gamma and beta of normalization layers without weight decay.
    `options` go to the optimizer (momentum, beta1, warmup_strategy, ...).
    """

    name: str = "nag"
    lr: float = 0.1
    lr_for_batch: Optional[int] = None
    weight_decay: float = 0.0
    decay_all: bool = False
    options: Dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """Learning rate over the run, per update: a linear warm-up from `warmup_from` * lr, then one of

    cosine or linear (to `final` * lr), step (times `factor` at each of `steps`), constant.
    """

    name: str = "cosine"
    warmup: str = "0ep"
    warmup_from: float = 0.0
    final: float = 0.0
    steps: Tuple[str, ...] = ()
    factor: float = 0.1


@dataclasses.dataclass(frozen=True)
class DistributedSettings:
    """How several workers train together: gradients travel as they are (`compression: none`) or as float16 (`fp16`).

    A worker without progress for `timeout_s` seconds ends the job (three times as long before the first update); 0 is
    no limit.
    """

    compression: str = "none"
    timeout_s: float = 600.0

    def __post_init__(self):
        if self.compression not in ("none", "fp16"):
            raise ValueError(f"distributed.compression is {self.compression!r}; choose none or fp16")
        if self.timeout_s < 0:
            raise ValueError(f"distributed.timeout_s is {self.timeout_s:g}; it must be at least 0 (0: no limit)")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One training run. Every key of a recipe file is a field here; unknown keys are refused."""

    model: str = UNSET
    model_options: Dict[str, Any] = dataclasses.field(default_factory=dict)
    pretrained: Optional[str] = None
    task: str = "classification"
    task_options: Dict[str, Any] = dataclasses.field(default_factory=dict)
    data: DataSettings = DataSettings()
    duration: str = "10ep"
    accumulate: int = 1
    precision: str = "float32"
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    hooks: Dict[str, Dict[str, Any]] = dataclasses.field(default_factory=dict)
    evaluate_every: str = "1ep"
    checkpoint_every: str = "1ep"
    distributed: DistributedSettings = DistributedSettings()
    seed: int = 0

    def __post_init__(self):
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}; it must be at least 1")

    def as_dict(self) -> dict:
        """Plain dictionaries, lists and numbers, as they go into a YAML file."""
        return _plain(dataclasses.asdict(self))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def find_recipe(model: Optional[str], kind: Optional[str] = None) -> Path:
    """Return the recipe for a model on a kind of data: <model>.<kind>.yaml, else <kind>.yaml, else <model>.yaml.

    Raises FileNotFoundError naming what was looked for.
    """
    names = [f"{model}.{kind}", kind, model] if model and kind else [model or kind]
    for name in names:
        path = _resources.folder("configs") / f"{name}.yaml"
        if path.is_file():
            return path
    with_recipe = difflib.get_close_matches(model, list_models(family=model_info(model).family, has_recipe=True), 1, 0)
    near = model_info(with_recipe[0]).recipes[0] if with_recipe else "FILE"
    raise FileNotFoundError(
        f"no recipe {' or '.join(f'{name}.yaml' for name in names)} in {_resources.folder('configs')}.\n"
        f"Any recipe goes with any model; of the same family: add --config configs/{near}"
    )


def load_recipe(path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file (None: all defaults) and apply overrides of the form 'section.key=value', the value in YAML.

    Raises FileNotFoundError, or ValueError for an unknown key, a value of the wrong type or one still to be set (???).
    """
    tree = _read(Path(path)) if path else {}
    for override in overrides:
        _set(tree, override)
    recipe = _build(Recipe, tree, "")
    unset = [key for key, value in _leaves(recipe.as_dict()) if value == UNSET and key != "data.source"]
    if unset:
        raise ValueError(f"{path} leaves {', '.join(unset)} to you: add --set {unset[0]}=...")
    return recipe


def _read(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"no recipe {path}; those that come with the package are in configs/")
    try:
        tree = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} is not a recipe: it must hold keys and values")
    return tree


def _set(tree: dict, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ValueError(f"--set {override!r} is not of the form section.key=value")
    *sections, leaf = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if tree is None or not isinstance(tree, dict):
            raise ValueError(f"--set {override}: {section!r} is a value, not a section")
    try:
        tree[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {override}: {' '.join(str(error).split())}") from None


def _leaves(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        # An empty section within another one says something: a hook with its defaults.
        if isinstance(value, dict) and (value or not prefix):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _build(cls, tree: Any, where: str):
    """Make the dataclass `cls` from a mapping, checking keys and types; `where` is its place in the recipe."""
    if not isinstance(tree, dict):
        raise ValueError(f"{where or 'the recipe'} must be a section with keys, not {tree!r}")
    types = typing.get_type_hints(cls)
    for key in tree:
        if key not in types:
            near = difflib.get_close_matches(str(key), types, 1, 0)[0]
            raise ValueError(f"unknown recipe key {where}{key}; did you mean {where}{near}?")
    return cls(**{key: _convert(types[key], value, f"{where}{key}") for key, value in tree.items()})


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
            return float(value)  # YAML 1.1 reads 3e-5 as a text
        except (TypeError, ValueError):
            pass
    elif kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    elif isinstance(value, kind if origin is None else origin) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where} must be {_type_name(kind)}, not {value!r}")


def _type_name(kind) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind, "a list" if typing.get_origin(kind) is tuple else "a section with keys")


def differences(old: dict, new: dict) -> List[str]:
    """Lines 'key: old -> new' for all keys in which two recipes (as_dict) differ."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
