"""PaperTable: a table of a paper as the names of its networks and of its columns."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

__all__ = ["PaperTable", "Row"]


class Row(NamedTuple):
    """A network of a table.

    `name` is its registered name; empty for one that the package does not have, whose `label` is then its name in
    results/published.json. `remark` stands in brackets behind the source there, and tells equal networks apart.
    `subnet` is a width of a slimmable network, `divisor` an identity divisor of MobileNeXt: 'top-1 of subnet(3)' and
    'top-1 with identity_divisor=2' are what is then looked up.

    Attributes:
        label: As the paper calls it.
        name: Registered name, or empty.
        remark: Behind the source in results/published.json.
        subnet: Index of a width of a slimmable network.
        divisor: Identity divisor of MobileNeXt.
    """

    label: str
    name: str = ""
    remark: str = ""
    subnet: Optional[int] = None
    divisor: Optional[int] = None

    @property
    def at(self) -> str:
        """What stands behind the name of a number in results/published.json."""
        if self.subnet is not None:
            return f" of subnet({self.subnet})"
        return "" if self.divisor is None else f" with identity_divisor={self.divisor}"


class PaperTable(NamedTuple):
    """A table of a paper.

    `quoted` is what is only quoted from results/published.json. Numbers come from there by their source, which is
    '<paper>, table <number>' unless `sources` are given; `place` is then where the table stands, and `number` its place
    among the tables of the paper here. `rules` are the counting rules of its columns.

    Attributes:
        paper: Its arXiv number.
        number: Of the table.
        title: What it shows.
        rows: Its networks.
        quoted: What is only quoted from results/published.json.
        note: What has to be known to read it.
        rules: Counting rules of its columns.
        place: Where it stands, if it has no number there.
        sources: Of its numbers in results/published.json; empty: '<paper>, table <number>'.
    """

    paper: str
    number: int
    title: str
    rows: Tuple[Row, ...]
    quoted: Tuple[str, ...] = ()
    note: str = ""
    rules: Tuple[str, ...] = ("conv_fc", "conv")
    place: str = ""
    sources: Tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """Paper, place and title in one line."""
        return f"{self.paper}, {self.place or f'table {self.number}'}: {self.title}"
