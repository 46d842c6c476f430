"""Files of a run folder that are whole or not there, and how they are found again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..files.side_json import read_json as read_anything

__all__ = [
    "RESULT",
    "folder_name",
    "list_checkpoints",
    "prune",
    "read_json",
    "renumber",
    "set_aside",
    "update_now",
]

RESULT = "result.json"  # in the run folder; the last file that a run writes there


def list_checkpoints(out: Path) -> List[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    return sorted((Path(out) / "checkpoints").glob("update-*"))


def read_json(path: Path) -> Optional[dict]:
    """Return the object in a JSON file, or None for a file that is not there, empty or cut short."""
    try:
        content = read_anything(path, finite=False)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def folder_name(update: int) -> str:
    """How the checkpoint after so many updates is called."""
    return f"update-{update:08d}"


def update_now(update: int, per_epoch: int, per_epoch_now: int) -> int:
    """The number of an update, from when an epoch had `per_epoch` of them, at the same place in the run now."""
    return round(update * per_epoch_now / per_epoch)


def renumber(last: Path, update: int, per_epoch: int) -> None:
    """Rename checkpoints from when an epoch had another number of updates by their places in the run now.

    What a checkpoint holds stays as it is, so that the names follow from it at any time. Their order stays, too: two
    that come to the same place have numbers that follow each other.

    Args:
        last: The checkpoint that the run goes on from; later ones, which are damaged, keep their names.
        update: Its number now.
        per_epoch: Updates of an epoch now.
    """
    moves, before = [], update + 1
    for path in reversed([path for path in list_checkpoints(last.parents[1]) if path.name <= last.name]):
        record = read_json(path / "run.json")
        if record is not None:
            number = update_now(record["update"], record.get("updates_per_epoch", per_epoch), per_epoch)
            before = min(number, before - 1)
            moves.append((path, path.with_name(folder_name(max(before, 0)))))
    # In an order in which none meets another one that is still to move.
    smaller = [move for move in reversed(moves) if move[1] < move[0]]
    for path, final in smaller + [move for move in moves if move[1] > move[0]]:
        if not final.exists():
            os.replace(path, final)


def set_aside(out: Path, update: int) -> None:
    """Move checkpoints with later numbers than that of this update away: damaged ones, which nothing goes on from."""
    for path in list_checkpoints(out):
        if path.name > folder_name(update):
            aside = path.parent / "superseded" / path.name
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            os.replace(path, aside)


def prune(out: Path, keep: int, best: Dict[str, Any]) -> None:
    """Delete all checkpoints but the last `keep` and the best, by its `update` and `updates_per_epoch`."""
    for path in list_checkpoints(out)[: max(0, len(list_checkpoints(out)) - keep)]:
        # By what it holds, since its name may have changed.
        record = read_json(path / "run.json") or {}
        if not best or any(record.get(key) != value for key, value in best.items() if key.startswith("update")):
            shutil.rmtree(path, ignore_errors=True)
