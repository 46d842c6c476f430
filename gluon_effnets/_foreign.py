"""Code outside of the package, which recipes, command lines and calls name as 'module:name'."""

from __future__ import annotations

import difflib
import importlib
import re
from typing import Any

from .files.text import shortened

__all__ = ["is_foreign", "load_foreign"]

_FORM = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


def is_foreign(name: str) -> bool:
    """Whether a name is that of code outside of the package, 'module:name'."""
    return ":" in name


def load_foreign(name: str, what: str) -> Any:
    """Import the module of 'module:name' and return what the name stands for there.

    An import runs code: the name must come from whoever runs this process, never out of a file of weights.

    Args:
        name: "mypkg.nets:my_net".
        what: What it is to be, for the error text: "model".

    Raises:
        ValueError: The module cannot be imported, or has no such name.
    """
    match = _FORM.fullmatch(name) if len(name) <= 1000 else None
    if match is None:
        raise ValueError(f"{what} {shortened(name)} is not of the form package.module:name")
    module_name, attribute = match.groups()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if f"{module_name}.".startswith(f"{missing}."):
            remedy = "install it, or add the folder that it lies in to PYTHONPATH"
            raise ValueError(f"{what} {name!r}: there is no module {missing!r}; {remedy}") from None
        raise ValueError(f"{what} {name!r}: {module_name} needs {missing!r}, which is not installed") from error
    except Exception as error:  # whatever the code of others raises
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{what} {name!r}: {module_name} cannot be imported ({reason})") from error
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, [key for key in vars(module) if not key.startswith("_")], 1)
        advice = f"; did you mean {module_name}:{near[0]}?" if near else ""
        raise ValueError(f"{what} {name!r}: {module_name} has no {attribute!r}{advice}")
    return getattr(module, attribute)
