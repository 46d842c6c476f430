"""Tables of results: written once as columns and rows, shown as Markdown, aligned text, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any, Iterable, List, NamedTuple, Sequence, Tuple, Union

from .runtime.files import printable

__all__ = ["FORMATS", "Column", "Table", "natural_order"]

FORMATS = ("text", "markdown", "csv", "json")

# A number within a name; behind an x, `_` is the decimal point: x0_35 is 0.35.
_NUMBER = re.compile(r"((?<=x)\d+_\d+|\d+)")


def natural_order(name: str) -> Tuple[Union[str, float], ...]:
    """Return a key for sorting names by the numbers in them: x0_35 before x0_5, and 98 before 110.

    Args:
        name: For example of a model.

    Example:
        >>> sorted(["net_110", "net_98", "x0_5", "x0_35"], key=natural_order)
        ['net_98', 'net_110', 'x0_35', 'x0_5']
    """
    parts = _NUMBER.split(name)  # texts at even places, numbers at odd ones
    return tuple(float(part.replace("_", ".")) if place % 2 else part for place, part in enumerate(parts))


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: Above the column.
        spec: Format specification of its numbers in Markdown and text: '.2f', '.1%', ',' ...
    """

    title: str
    spec: str = ""


class Table:
    """Columns and rows of values.

    Markdown and text show numbers as the columns say; CSV and JSON hold them as they are. None is an empty cell, a text
    stands as it is in every column, and a list is a list in JSON and its items with spaces between them elsewhere.

    Args:
        columns: Titles, or pairs (title, format specification) for columns of numbers.
        rows: Sequences of as many values as there are columns.

    Raises:
        ValueError: A row has more or fewer values than there are columns.

    Example:
        >>> table = Table(["network", ("time, ms", ".1f")], [("a", 1.25), ("b", None)])
        >>> print(table.markdown())
        | network | time, ms |
        | --- | --- |
        | a | 1.2 |
        | b |  |
    """

    def __init__(self, columns: Sequence[Sequence[str]], rows: Iterable[Sequence[Any]]):
        self.columns = [Column(column) if isinstance(column, str) else Column(*column) for column in columns]
        self.rows = [tuple(row) for row in rows]
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} values for {len(self.columns)} columns: {row}")

    @property
    def titles(self) -> List[str]:
        """The titles of the columns, from left to right."""
        return [column.title for column in self.columns]

    def markdown(self) -> str:
        """A Markdown table, without a line break at its end."""
        lines = [self.titles, ["---"] * len(self.columns), *self._shown()]
        return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)

    def text(self, header: bool = True) -> str:
        """Lines with aligned columns, below their titles if `header`; without a line break at the end."""
        lines = [*([self.titles] if header else []), *self._shown()]
        widths = [max(map(len, cells)) for cells in zip(*lines)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def csv(self) -> str:
        """Comma-separated values below the titles, quoted where needed; without a line break at the end."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.titles)
        writer.writerows([_joined(value) for value in row] for row in self.rows)
        return out.getvalue().rstrip("\n")

    def records(self) -> List[dict]:
        """The rows as dictionaries by the titles of the columns.

        Raises:
            ValueError: Two columns have the same title.
        """
        if len(set(self.titles)) < len(self.titles):
            raise ValueError(f"two columns have the same title: {', '.join(self.titles)}")
        return [dict(zip(self.titles, row)) for row in self.rows]

    def json(self) -> str:
        """A JSON list of `records`, which says what is raised."""
        return json.dumps(self.records(), indent=1, ensure_ascii=False)

    def written(self, format: str) -> str:
        """The table in one of `FORMATS`.

        Raises:
            ValueError: The format is not among `FORMATS`.
        """
        if format not in FORMATS:
            raise ValueError(f"there is no table format {format!r}; choose from {', '.join(FORMATS)}")
        return getattr(self, format)()

    def _shown(self) -> List[List[str]]:
        return [[_cell(value, column.spec) for value, column in zip(row, self.columns)] for row in self.rows]


def _cell(value: Any, spec: str) -> str:
    value = _joined(value)
    if isinstance(value, str):  # of a class or a file perhaps, which a stranger named
        return " ".join(printable(value).splitlines())
    return "" if value is None else format(value, spec)


def _joined(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|").replace("\n", " ")
