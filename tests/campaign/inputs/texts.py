"""Texts: recipes, options and names."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from random import Random
from typing import Any, List

from .. import damage
from ..judge import Call
from ..sources import put
from .pictures import validated
from .room import PHOTO, Room, command


class Texts(Room):
    """What is written by hand."""

    def recipes(self, place: Path, draw: Random) -> Call:
        """Recipes as YAML, and --set."""
        import yaml

        path = self._give(place, draw.choice(["tiny.yaml", "tiny.yaml", "staged.yaml"]))
        words = []
        kind = draw.randrange(4)
        if kind == 0:
            put(path, damage.of_lines(path.read_bytes(), draw))
        elif kind <= 2:
            try:
                tree = without_modules(damage.of_tree(yaml.safe_load(path.read_text()), draw))
                put(path, yaml.safe_dump(tree).encode("utf-8", "surrogatepass"))
            except RecursionError:
                put(path, b"[" * 100_000)
        else:
            words = [_damaged_setting(draw) for _ in range(draw.choice([1, 1, 2]))]
        return Call(functools.partial(built, path, words))

    def options(self, place: Path, draw: Random) -> Call:
        """Options of constructors, -o NAME=VALUE."""
        self._give(place, "sealed.params", PHOTO)
        names = [
            "bn_epsilon",
            "act",
            "dropout",
            "classes",
            "in_channels",
            "stem_stride",
            "width",
            "layout",
            "nothing",
            "",
        ]
        words = [f"{draw.choice(names)}{draw.choice(['=', '=', '=', '', ':'])}{odd_value(draw)}"]
        return Call(command("predict", "idle_tiny", "sealed.params", PHOTO, "-o", *map(as_word, words)))

    def names(self, place: Path, draw: Random) -> Call:
        """Names of classes: lists of lines, lists of im2rec."""
        kind = draw.randrange(3)
        if kind == 0:
            self._give(place, "names.txt", "sealed.params", PHOTO)
            put(place / "names.txt", damage.of_lines((place / "names.txt").read_bytes(), draw))
            return Call(command("predict", "idle_tiny", "sealed.params", PHOTO, "--names", "names.txt"))
        if kind == 1:
            path = self._give(place, "train.lst")
            put(path, damage.of_lines(path.read_bytes(), draw))
            return Call(command("classes", path, "classes.txt"))
        self._give(place, "records", "sealed.params")
        path = place / "records" / "classes.txt"
        put(path, damage.of_lines(path.read_bytes(), draw))
        return Call(validated("records"))


def without_modules(tree: Any) -> Any:
    """A recipe names modules of its author's own, which are imported: here nothing means it."""
    if isinstance(tree, dict):
        return {key: without_modules(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_modules(value) for value in tree]
    return "no module" if isinstance(tree, str) and tree.startswith("canary:") else tree


_KEYS = (
    "optimizer.lr optimizer.name duration data.source data.image_size data.batch_size evaluate_every hooks.ema hooks "
    "schedule.name schedule model model_options.bn_epsilon precision seed data stages task data.augment x.y a..b ='' "
    "checkpoint_every optimizer.options.momentum data.workers data.mean accumulate"
).split()


def odd_value(draw: Random) -> str:
    one = draw.choice(damage.ODD_VALUES)
    text = one if isinstance(one, str) else json.dumps(one)
    return draw.choice(
        [text, text, f"[{text}", f"{{a: {text}}}", f"'{text}'", "5ep", "-3it", "0.5run", "&a [*a]", "!!set x"]
    )


def as_word(text: str) -> str:
    """What a command line can hold."""
    return text.replace("\0", "").replace("\ud800", "?").replace("canary:touch", "canary")


def _damaged_setting(draw: Random) -> str:
    return as_word(f"{draw.choice(_KEYS)}{draw.choice(['=', '=', '=', '=', ''])}{odd_value(draw)}")


def built(path: Path, words: List[str]) -> None:
    """All that a run does before its first update."""
    from gluon_effnets.train.build import build
    from gluon_effnets.train.config import load_recipe
    from gluon_effnets.train.dist import Workers

    recipe = load_recipe(path, words)
    parts = recipe.split().values() if recipe.stages else [recipe]
    for one in parts:
        build(one, Path.cwd().parent, Workers())
