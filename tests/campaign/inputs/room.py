"""What all rooms of parts are made of: files that a case gets, and calls of commands."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Callable, List

from ..judge import Part
from ..sources import given, put

PHOTO = "photo.png"


def command(*words: Any, runtime: bool = False) -> Callable[[], Any]:
    """A call of `python -m gluon_effnets`, or of its runtime."""
    from gluon_effnets.__main__ import main
    from gluon_effnets.runtime.commands import main as runtime_main

    return functools.partial(runtime_main if runtime else main, [str(word) for word in words])


class Room:
    """Parts over a folder of undamaged files: the public methods of a class derived from it, in their order."""

    def __init__(self, folder: Path):
        self.folder = folder

    def parts(self) -> List[Part]:
        """The parts in the order in which they run."""
        return [Part(name, getattr(self, name)) for name in vars(type(self)) if not name.startswith("_")]

    def _give(self, place: Path, *names: str) -> Path:
        return given(self.folder, place, *names)

    def _export(self, place: Path, kind: str) -> Path:
        self._give(place, kind, PHOTO)
        return place / kind / "net.json"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sealed(description: Path, file: Path) -> None:
    """Give the description the digest that the damaged file has."""
    about = json.loads(description.read_bytes())
    about["sha256"][file.name] = digest(file)
    put(description, json.dumps(about).encode())


def told(run: Callable[[], Any]) -> Callable[[], Any]:
    """A command that says on standard output what is damaged, and whose code is then 1."""

    def call():
        code = run()
        if code == 1:
            print("error: damaged", file=sys.stderr)
        return code

    return call
