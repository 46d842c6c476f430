"""Which networks there are, and what is known of each, without building any."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Any, Dict, List, Optional, Sequence, Union

from .. import _resources
from ..files.schema import check_type
from .info import ModelInfo
from .registry import entries, resolve

__all__ = ["described_info", "families", "list_models", "model_info", "small_model"]


def list_models(
    pattern: Union[str, Sequence[str]] = "*",
    *,
    family: Optional[str] = None,
    has_recipe: Optional[bool] = None,
    exclude: Union[str, Sequence[str]] = (),
    pretrained: Optional[bool] = None,
) -> List[str]:
    """List the names of the registered models that match a wildcard.

    Args:
        pattern: With `*` and `?`, in any case; or several, of which one must match.
        family: Only models of this family.
        has_recipe: Only models with (True) or without (False) a recipe in configs/.
        exclude: A wildcard of names to leave out, or several.
        pretrained: Only models with (True) or without (False) published weights, as `weights` lists them.

    Returns:
        The names, sorted.

    Example:
        >>> list_models(["mobilenet_v3_*", "efficientnet_b?"])
        ['efficientnet_b0', 'mobilenet_v3_large', 'mobilenet_v3_small']
    """
    wanted, unwanted = _wildcards("pattern", pattern), _wildcards("exclude", exclude)
    check_type("family", family, str, type(None), words="a name of families() or None")
    check_type("has_recipe", has_recipe, bool, type(None), words="True, False or None")
    check_type("pretrained", pretrained, bool, type(None), words="True, False or None")
    published = {row["model"] for row in _resources.results("weights").get("weights", ())}
    return [
        name
        for name, entry in sorted(entries().items())
        if not entry.hidden
        and any(fnmatch.fnmatch(name, one) for one in wanted)
        and not any(fnmatch.fnmatch(name, one) for one in unwanted)
        and family in (None, entry.info.family)
        and has_recipe in (None, bool(_resources.recipes(name)))
        and pretrained in (None, name in published)
    ]


def _wildcards(argument: str, given: Union[str, Sequence[str]]) -> List[str]:
    check_type(argument, given, str, list, tuple, words="a wildcard or a list of them")
    several = [given] if isinstance(given, str) else given
    for one in several:
        check_type(argument, one, str, words="a wildcard or a list of them")
    return [one.lower() for one in several if one]


def families() -> List[str]:
    """Sorted names of the families that have listed networks."""
    return sorted({entry.info.family for entry in entries().values() if not entry.hidden})


def small_model(family: str) -> str:
    """Return the name of the network that stands for its family in tests.

    Args:
        family: As in `families()`.

    Raises:
        ValueError: For a family that has none.
    """
    check_type("family", family, str, words="a name of families()")
    for name, entry in entries().items():
        if entry.info.family == family and entry.info.small:
            return name
    raise ValueError(f"no network stands for the family {family!r}: register one of it with small=True")


def model_info(name: str) -> ModelInfo:
    """Return the facts about a model, without building it.

    Args:
        name: As for `get_model`.

    Raises:
        ValueError: For an unknown name.

    Example:
        >>> model_info("efficientnet_b0").params
        5288548
    """
    return _facts(resolve(name))


def described_info(name: str) -> ModelInfo:
    """Return the facts about the model that a file names; of one that is not known here, the usual ones.

    A file may be a stranger's: unlike `model_info` and `get_model`, this imports nothing that it names.
    """
    return _facts(name) if name in entries() else ModelInfo(name, family="", summary="", paper="")


def _facts(name: str) -> ModelInfo:
    computed: Dict[str, Any] = _resources.results("computed").get(name, {})
    published = tuple(row for row in _resources.results("published").get("rows", ()) if row.get("model") == name)
    return dataclasses.replace(
        entries()[name].info,
        params=computed.get("params"),
        madds=computed.get("madds"),
        published=published,
        recipes=tuple(path.name for path in _resources.recipes(name)),
    )
