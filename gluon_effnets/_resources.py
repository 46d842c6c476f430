"""Where the files beside the code are: recipes in configs/, numbers in results/; and of which commit it all is."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import List, Optional

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return configs/ or results/: inside an installed package, or beside it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def recipes(model: str) -> List[Path]:
    """Recipes of a model: `<model>.yaml`, then `<model>.<tag>.yaml`."""
    found = [folder("configs") / f"{model}.yaml", *sorted(folder("configs").glob(f"{model}.*.yaml"))]
    return [path for path in found if path.is_file()]


@functools.lru_cache(maxsize=None)
def results(name: str) -> dict:
    """Content of results/<name>.json; empty if there is none."""
    path = folder("results") / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def commit() -> Optional[str]:
    """The commit of a checkout, with '-dirty' if files were changed; None elsewhere."""
    command = ["git", "-C", str(_PACKAGE), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
