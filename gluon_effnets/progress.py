"""Progress bars of everything that takes long."""

from __future__ import annotations

from typing import Any, Iterable, Optional

from tqdm import tqdm

__all__ = ["progress_bar"]


def progress_bar(items: Optional[Iterable] = None, *, shown: bool = True, **settings: Any) -> tqdm:
    """Return a bar on standard error that disappears when it is done; in a file or a pipe there is none.

    Every redraw of a bar would stand in such a file, one behind the other.

    Args:
        items: What to iterate over; None if `update` is called instead.
        shown: False for a process that leaves talking to another one.
        settings: tqdm's own: desc, unit, total, delay, ...
    """
    return tqdm(items, leave=False, disable=None if shown else True, **settings)
