"""Journal: the scores that a search has found so far, in a file that outlives the search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict

from ..files.text import shortened, shown
from ..files.write import append_line, make_folder
from .space import Choice

__all__ = ["Journal"]

Scores = Dict[str, float]


class Journal:
    """A scorer that remembers: what was scored before a search was killed is not scored again.

    Args:
        path: A file of JSON lines, made if it is not there; a line that a kill cut short is left out.
        about: What the scores depend on (space, weights, images); a journal of anything else is refused.
        scorer: Choice -> scores.

    Raises:
        ValueError: The file is the journal of another search, or none.
    """

    def __init__(self, path: Path, about: Dict[str, Any], scorer: Callable[[Choice], Scores]):
        self.path, self._scorer = Path(path), scorer
        self._found: Dict[Choice, Scores] = {}
        about = json.loads(json.dumps(about))
        if self.path.is_file():
            self._read(about)
        else:
            make_folder(self.path.parent)
            append_line(self.path, json.dumps({"about": about}))

    def _read(self, about: Dict[str, Any]) -> None:
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
        if not lines or not isinstance(lines[0], dict) or "about" not in lines[0]:
            raise ValueError(f"{self.path} is no journal of a search: give another folder by --out")
        before = lines[0]["about"]
        if before != about:
            keys = [key for key in {**before, **about} if before.get(key) != about.get(key)]
            told = f"{shown(keys[0])} was {shortened(before.get(keys[0]))}, now it is {shortened(about.get(keys[0]))}"
            raise ValueError(f"{self.path} is of another search: {told}; give another folder by --out")
        for line in lines[1:]:
            if isinstance(line, dict) and isinstance(line.get("choice"), list) and isinstance(line.get("scores"), dict):
                self._found[tuple(line["choice"])] = line["scores"]

    def __contains__(self, choice: Choice) -> bool:
        return choice in self._found

    def __len__(self) -> int:
        return len(self._found)

    def __call__(self, choice: Choice) -> Scores:
        """The scores of a choice, found now or before."""
        if choice not in self._found:
            scores = {key: float(value) for key, value in self._scorer(choice).items()}
            append_line(self.path, json.dumps({"choice": list(choice), "scores": scores}))
            self._found[choice] = scores
        return self._found[choice]
