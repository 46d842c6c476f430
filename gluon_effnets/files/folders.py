"""Folders that are made for results, and not left behind where there are none."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Collection, Iterator

__all__ = ["not_left_empty"]


@contextlib.contextmanager
def not_left_empty(folder: Path, but_for: Collection[str] = ()) -> Iterator[None]:
    """Remove a folder that was made within, and those around it, if an error ends the block without a result.

    Args:
        folder: One that was there before stays.
        but_for: Names of files that are no result, and go with the folder.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        yield
    except Exception:
        if made and all(path.name in but_for for path in folder.rglob("*") if not path.is_dir()):
            shutil.rmtree(folder, ignore_errors=True)
            for around in made[1:]:
                # Another process may have put something beside it.
                with contextlib.suppress(OSError):
                    around.rmdir()
        raise
