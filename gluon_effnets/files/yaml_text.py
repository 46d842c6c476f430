"""YAML from strangers: plain values of bounded size and depth, without aliases and without tags of others."""

from __future__ import annotations

import math
from typing import Any

import yaml

from .regular import read_text
from .text import shortened, shown

__all__ = ["parse_yaml", "read_yaml"]

_MOST = 1 << 17  # bytes; the largest recipe has some thousands
_DEPTH = 16
_DIGITS = 25  # of a number


class _Loader(yaml.SafeLoader):
    """SafeLoader for texts, numbers, true, false, null, lists and mappings, which refuses aliases and deep nesting.

    An alias costs one character and stands for all that it names: ten lines of them are a billion values.
    """

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", event.start_mark)
        if self._depth > _DEPTH:
            raise yaml.composer.ComposerError(
                None, None, f"there are lists within lists, deeper than {_DEPTH}", self.peek_event().start_mark
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_number(self, node):
        if len(node.value) > _DIGITS:
            raise yaml.constructor.ConstructorError(None, None, "a number has too many digits", node.start_mark)
        make = self.construct_yaml_int if node.tag.endswith(":int") else self.construct_yaml_float
        try:
            value = make(node)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            text = f"{shortened(node.value)} is no finite number"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)
        return value

    def refuse(self, node):
        text = f"{shortened(node.tag)} is not allowed"
        raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)


_TAG = "tag:yaml.org,2002:"
_Loader.yaml_constructors = {
    key: value
    for key, value in yaml.SafeLoader.yaml_constructors.items()
    if key in {f"{_TAG}{name}" for name in ("null", "bool", "str", "seq", "map")}
}
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_number)
_Loader.add_constructor(f"{_TAG}float", _Loader.construct_number)
_Loader.yaml_multi_constructors = {}
_Loader.add_multi_constructor("", lambda loader, suffix, node: loader.refuse(node))
# A date, which is no value of ours, stays a text; "<<" and "=" are keys as any other.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag[len(_TAG) :] in ("null", "bool", "int", "float")]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path, what: str = "file") -> Any:
    """Return the content of a YAML file.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no regular file, no YAML, or has what recipes do not need: aliases, tags, deep nesting.
    """
    return parse_yaml(read_text(path, what, _MOST), path)


def parse_yaml(text: str, where) -> Any:
    """Return what a YAML text stands for. Raises ValueError, which names `where` it stands, as `read_yaml` does."""
    if len(text) > _MOST:
        raise ValueError(f"{where} has {len(text):,} characters; at most {_MOST:,} are read")
    try:
        return yaml.load(text, Loader=_Loader)
    # A tag such as !!bool makes the constructors of others meet texts that they do not expect.
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = shown(" ".join(str(getattr(error, "problem", None) or error).split()), 300)
        raise ValueError(f"{where} is not valid YAML: {place}{reason}") from None
