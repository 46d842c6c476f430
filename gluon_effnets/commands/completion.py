"""Completion of the command line in a shell, by argcomplete where it is installed and a shell asks."""

from __future__ import annotations

import argparse
import os
from typing import Callable, Dict, List

from .._requirements import install_command

__all__ = ["SHELLS", "complete", "how_to_register"]

SHELLS = ("bash", "zsh", "fish")
# Set by the shell function of argcomplete, and only while a line is completed.
_ASKED = "_ARGCOMPLETE"
_REGISTER = {
    "bash": 'eval "$(register-python-argcomplete gluon-effnets)"',
    "zsh": 'autoload -U bashcompinit; bashcompinit; eval "$(register-python-argcomplete gluon-effnets)"',
    "fish": "register-python-argcomplete --shell fish gluon-effnets | source",
}


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that completes a line, and end the process; in any other call, do nothing at once.

    Args:
        parser: With all commands.
    """
    if _ASKED not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        return
    _name_arguments(parser)
    argcomplete.autocomplete(parser)


def how_to_register(shell: str) -> str:
    """Return the lines that make a shell complete the command `gluon-effnets`.

    Args:
        shell: One of `SHELLS`.
    """
    return f"# {install_command('completion')}\n{_REGISTER[shell]}"


def _models(prefix: str, **_: object) -> List[str]:
    from .. import list_models

    return list_models(f"{prefix}*")


def _models_and_detectors(prefix: str, **_: object) -> List[str]:
    from ..detection import list_detectors

    return [*_models(prefix), *(name for name in list_detectors() if name.startswith(prefix))]


def _recipes(prefix: str, **_: object) -> List[str]:
    from .. import _resources

    return [path.name for path in sorted(_resources.folder("configs").glob(f"{prefix}*.yaml"))]


def _families(prefix: str, **_: object) -> List[str]:
    from ..models import families

    return [name for name in families() if name.startswith(prefix)]


def _papers(prefix: str, **_: object) -> List[str]:
    from ..claims import PAPERS

    return [name for name in PAPERS if name.startswith(prefix)]


def _experiments(prefix: str, **_: object) -> List[str]:
    from .. import _resources

    return [path.stem for path in sorted((_resources.folder("configs") / "experiments").glob(f"{prefix}*.yaml"))]


# By the destination of an argument. Where none of these begins as the word does, the shell completes files.
_COMPLETERS: Dict[str, Callable[..., List[str]]] = {
    "base": _models,
    "baseline": _models,
    "config": _recipes,
    "family": _families,
    "model": _models_and_detectors,
    "name": _models_and_detectors,
    "names": _models_and_detectors,
    "paper": _papers,
    "patterns": _models_and_detectors,
}
# Of the commands in which such an argument names something else.
_OTHERS: Dict[str, Dict[str, Callable[..., List[str]]]] = {
    "experiment": {"name": _experiments},
    "recipes": {"name": _recipes},
}


def _name_arguments(parser: argparse.ArgumentParser, command: str = "") -> None:
    completers = {**_COMPLETERS, **_OTHERS.get(command, {})}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                _name_arguments(inner, word)
        elif action.dest in completers and not action.choices:
            action.completer = completers[action.dest]  # type: ignore[attr-defined]  # where argcomplete looks for it
