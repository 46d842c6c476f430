"""Tables of papers computed anew: what was printed beside what the networks built here have.

A module per paper holds its tables as rows of names; every printed number comes from results/published.json.
"""

from __future__ import annotations

import functools
from typing import Dict, Optional, Tuple

from .. import _resources, get_model
from ..complexity import count
from ..tables import Table
from . import shufflenet
from .table import PaperTable, Row

__all__ = ["PAPERS", "PaperTable", "Row", "computed_table", "paper_tables"]

PAPERS: Dict[str, Tuple[PaperTable, ...]] = {"shufflenet": shufflenet.TABLES}
# A printed number may be by either; which one it is differs even between the tables of one paper.
RULES = ("conv_fc", "conv")


def paper_tables(paper: str, number: Optional[int] = None) -> Tuple[PaperTable, ...]:
    """All tables of a paper, or the one with a number. Raises ValueError for an unknown paper or number."""
    if paper not in PAPERS:
        raise ValueError(f"no tables of {paper!r}; there are tables of {', '.join(PAPERS)}")
    tables = tuple(table for table in PAPERS[paper] if number in (None, table.number))
    if not tables:
        numbers = ", ".join(str(table.number) for table in PAPERS[paper])
        raise ValueError(f"{paper} has no table {number} here; its tables are {numbers}")
    return tables


def computed_table(table: PaperTable) -> Table:
    """The paper's networks: computed stage widths and parameters, published numbers, MAdds by both rules.

    The last column names the rules by which the count rounds to the published MAdds. Cells without a number, as of
    networks that are not in the package, are empty.
    """
    columns = ("network", "model", "stages", "params", *table.quoted, "published MAdds", *RULES, "counted by")
    return Table(columns, [_cells(table, row) for row in table.rows])


def _cells(table: PaperTable, row: Row) -> Tuple[str, ...]:
    quoted = [_published(table, row, what) for what in table.quoted]
    madds = _published(table, row, "MAdds")
    if not row.name:
        return (row.label, "", "", "", *quoted, madds, "", "", "")
    stages, params, counted = _computed(row.name)
    computed = [f"{counted[rule] / 1e6:.2f} M" for rule in RULES]
    matching = [rule for rule in RULES if madds and rounds_to(counted[rule], madds)]
    verdict = ", ".join(matching) or ("neither" if madds else "")
    return (row.label, row.name, stages, f"{params / 1e6:.3f} M", *quoted, madds, *computed, verdict)


def rounds_to(number: int, printed: str) -> bool:
    """Whether a number is what was printed, as '137 M' or '1.9 M', after rounding to as many places."""
    value = printed.split()[0]
    places = len(value.partition(".")[2])
    return f"{number / 1e6:.{places}f}" == value


def _published(table: PaperTable, row: Row, what: str) -> str:
    source = f"{table.paper}, table {table.number}" + (f" ({row.remark})" if row.remark else "")
    key = {"model": row.name or row.label, "what": what, "source": source}
    found = [entry["value"] for entry in _resources.results("published")["rows"] if key.items() <= entry.items()]
    return ", ".join(found)


@functools.lru_cache(maxsize=None)
def _computed(name: str) -> Tuple[str, int, Dict[str, int]]:
    net = get_model(name)
    stages = "/".join(str(stage.channels) for stage in net.stage_info)
    costs = {rule: count(net, rule=rule) for rule in RULES}
    return stages, costs["conv_fc"].params, {rule: cost.madds for rule, cost in costs.items()}
