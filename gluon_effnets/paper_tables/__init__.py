"""Tables of papers computed anew: what was printed beside what the networks built here have, and were measured to do.

A module per paper holds its tables as rows of names; every printed number comes from results/published.json, every
measured one from results/trained.json and results/latency.json.
"""

from __future__ import annotations

import functools
from typing import Any, Dict, List, Optional, Tuple

from .. import _resources, get_model, model_info
from ..complexity import condensed_options, count
from ..tables import Table
from . import condensenetv2, dsnet, idleblock, mobilenext, shufflenet
from .table import PaperTable, Row

__all__ = ["PAPERS", "PaperTable", "Row", "computed_table", "paper_tables"]

PAPERS: Dict[str, Tuple[PaperTable, ...]] = {
    "idleblock": idleblock.TABLES,
    "mobilenext": mobilenext.TABLES,
    "condensenetv2": condensenetv2.TABLES,
    "dsnet": dsnet.TABLES,
    "shufflenet": shufflenet.TABLES,
}
# What counts as one in a number that was printed.
_UNITS = {"K": 1e3, "M": 1e6, "G": 1e9}


def paper_tables(paper: str, number: Optional[int] = None) -> Tuple[PaperTable, ...]:
    """All tables of a paper, or the one with a number. Raises ValueError for an unknown paper or number.

    Args:
        paper: A key of `PAPERS`.
        number: Of one table; None: all.
    """
    if paper not in PAPERS:
        raise ValueError(f"no tables of {paper!r}; there are tables of {', '.join(PAPERS)}")
    tables = tuple(table for table in PAPERS[paper] if number in (None, table.number))
    if not tables:
        numbers = ", ".join(str(table.number) for table in PAPERS[paper])
        raise ValueError(f"{paper} has no table {number} here; its tables are {numbers}")
    return tables


def computed_table(table: PaperTable) -> Table:
    """The paper's networks: computed stage widths and parameters, published numbers, MAdds by several rules.

    Networks that are condensed after training are counted condensed. The column behind the MAdds names the rules by
    which the count rounds to the published one; then come the accuracies of runs of ours and the time of an image.
    Cells without a number, as of networks that are not in the package, are empty.

    Args:
        table: One of `paper_tables`.
    """
    quoted = ["published params" if what == "parameters" else what for what in table.quoted]
    columns = ("network", "model", "stages", "params", *quoted, "published MAdds", *table.rules, "counted by")
    return Table((*columns, "trained here", "time here"), [_cells(table, row) for row in table.rows])


def _cells(table: PaperTable, row: Row) -> Tuple[str, ...]:
    quoted = [_published(table, row, what) for what in table.quoted]
    madds = _published(table, row, "MAdds")
    if not row.name:
        return (row.label, "", "", "", *quoted, madds, *("" for _ in table.rules), "", "", "")
    stages, params, counted = _computed(row.name, row.subnet, table.rules)
    computed = [f"{counted[rule] / 1e6:.2f} M" for rule in table.rules]
    numbers = [printed for printed in madds.split(", ") if printed]
    matching = [rule for rule in table.rules if any(rounds_to(counted[rule], printed) for printed in numbers)]
    verdict = ", ".join(matching) or ("neither" if madds else "")
    told = (row.label, row.name, stages, f"{params / 1e6:.3f} M", *quoted, madds, *computed, verdict)
    return (*told, *(_measured(row.name) if not row.at else ("", "")))


def rounds_to(number: int, printed: str) -> bool:
    """Whether a number is what was printed, as '137 M', '1.9 M' or '4.1 G', after rounding to as many places."""
    value, *unit = printed.split()
    places = len(value.partition(".")[2])
    return f"{number / _UNITS.get(''.join(unit), 1e6):.{places}f}" == value


def _published(table: PaperTable, row: Row, what: str) -> str:
    own = f"{table.paper}, table {table.number}" + (f" ({row.remark})" if row.remark else "")
    key = {"model": row.name or row.label, "what": what + row.at}
    found = [
        entry["value"]
        for entry in _resources.results("published")["rows"]
        if key.items() <= entry.items() and entry["source"] in (table.sources or (own,))
    ]
    return ", ".join(dict.fromkeys(found) if table.sources else found)


@functools.lru_cache(maxsize=None)
def _computed(name: str, subnet: Optional[int], rules: Tuple[str, ...]) -> Tuple[str, int, Dict[str, int]]:
    net = get_model(name)
    size, form = model_info(name).input_size, condensed_options(net)
    net = get_model(name, **form) if form else net
    if subnet is not None:
        net = net.subnet(subnet)
    stages = "/".join(str(stage.channels) for stage in net.stage_info)
    costs = {rule: count(net, size, rule) for rule in rules}
    return stages, costs[rules[0]].params, {rule: cost.madds for rule, cost in costs.items()}


def _measured(name: str) -> Tuple[str, str]:
    """Accuracies of our own runs, and the median time of an image in the runtime that was fastest with one thread."""
    runs: Dict[Tuple[str, str], List[float]] = {}
    for run in _resources.results("trained").get("rows", ()):
        if run["model"] == name and not run.get("options"):
            runs.setdefault((run["data"], run["recipe"]), []).append(run["top1"])
    most: Dict[str, List[float]] = {}
    for (data, _), found in runs.items():
        # Of several recipes the one with the most runs.
        most[data] = max(most.get(data, []), found, key=len)
    trained = [f"{sum(top1) / len(top1):.1f} % on {data} ({len(top1)} runs)" for data, top1 in most.items()]
    return "; ".join(trained).replace("(1 runs)", "(1 run)"), _time(name)


def _time(name: str) -> str:
    def counts(row: Dict[str, Any]) -> bool:
        return row["model"] == name and not row["int8"] and row["batch"] == row["threads"] == 1

    rows = [row for row in _resources.results("latency").get("rows", ()) if counts(row)]
    if not rows:
        return ""
    fastest = min(rows, key=lambda row: row["median_ms"])
    return f"{fastest['median_ms']:.1f} ms in {fastest['runtime']}"
