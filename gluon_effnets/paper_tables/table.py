"""PaperTable: a table of a paper as the names of its networks and of its columns."""

from __future__ import annotations

from typing import NamedTuple, Tuple

__all__ = ["PaperTable", "Row"]


class Row(NamedTuple):
    """A network of a table.

    `name` is its registered name; empty for one that the package does not have, whose `label` is then its name in
    results/published.json. `remark` stands in brackets behind the source there, and tells equal networks apart.
    """

    label: str
    name: str = ""
    remark: str = ""


class PaperTable(NamedTuple):
    """A table: `paper` as the sources in results/published.json begin, `quoted` what is only quoted from there."""

    paper: str
    number: int
    title: str
    rows: Tuple[Row, ...]
    quoted: Tuple[str, ...] = ()
    note: str = ""
