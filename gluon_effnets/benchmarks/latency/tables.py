"""A latency measurement as Markdown tables: all rows, the best of ours against PyTorch's networks, memory."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

from ...tables import Table
from .comparisons import comparisons_table, is_peer, threads_text

__all__ = ["best_rows", "conditions_line", "latency_tables", "memory_table", "rows_table"]

Row = Dict[str, Any]


def latency_tables(result: Dict[str, Any]) -> str:
    """Everything that `measure` found, as text."""
    compared = comparisons_table(result.get("comparisons", []))
    parts = [rows_table(result), conditions_line(result["conditions"])]
    return "\n\n".join([*parts, *([compared] if compared else [])])


def rows_table(result: Dict[str, Any]) -> str:
    """A line per network and runtime, a column per number of threads and batch."""
    rows = result["rows"]
    settings = _settings(rows)
    remembered = _settings([row for row in rows if "peak_bytes" in row])
    header = ["model", "MAdds, M", "runtime", "size, MB", *(f"batch {b}, {threads_text(n)}" for n, b in settings)]
    header += [f"memory at batch {b}, {threads_text(n)}" for n, b in remembered]
    lines = []
    for model, runtime in dict.fromkeys((row["model"], row["runtime"]) for row in rows):
        found = {_setting(row): row for row in rows if (row["model"], row["runtime"]) == (model, runtime)}
        madds, size = result["models"][model]["madds"], next(iter(found.values()))["model_bytes"]
        line = [model, f"{madds / 1e6:.1f}" if madds else "", runtime, f"{size / 1e6:.1f}"]
        line += [_cell(found[setting]) if setting in found else "" for setting in settings]
        line += [_memory(found[setting]) if setting in found else "" for setting in remembered]
        lines.append(line)
    return Table(header, lines).markdown()


def memory_table(result: Dict[str, Any]) -> str:
    """What `measure` with `memory` found: a line per network and batch, a column per runtime."""
    rows = [row for row in result["rows"] if "peak_bytes" in row]
    runtimes = list(dict.fromkeys(row["runtime"] for row in rows))
    cells: Dict[Tuple[str, int], Dict[str, str]] = {}
    for row in rows:
        cells.setdefault((row["model"], row["batch"]), {})[row["runtime"]] = _memory(row)
    lines = [[model, n, *(found.get(name, "") for name in runtimes)] for (model, n), found in cells.items()]
    what = (
        f"largest resident memory of a process with {threads_text(result['conditions']['threads'][0])}, in brackets "
        "the increase over what it had after importing the runtime"
    )
    table = Table(["model", "batch", *runtimes], lines).markdown()
    return f"{table}\n\n{_images(result['conditions'])}; {what}. {_machine(result['conditions'])}."


def best_rows(rows: Sequence[Row]) -> Dict[Tuple[str, int, int], Row]:
    """{(model, threads, batch): row with the smallest minimum} of our float32 rows."""
    best: Dict[Tuple[str, int, int], Row] = {}
    for row in rows:
        key = (row["model"], *_setting(row))
        if row["int8"] or is_peer(row):
            continue
        if key not in best or row["minimum_ms"] < best[key]["minimum_ms"]:
            best[key] = row
    return best


def conditions_line(conditions: Dict[str, Any]) -> str:
    """What the times depend on besides the networks."""
    clock = {"wall": "time", "processor": "processor time"}[conditions["clock"]]
    how = f"minimum (median) of {conditions['repeats']} repetitions in turn, larger batches fewer"
    return f"{_images(conditions)}; {clock} in ms, {how}. {_machine(conditions)}."


def _images(conditions: Dict[str, Any]) -> str:
    height, width = conditions["image_size"]
    return f"Images of {height} x {width}"


def _machine(conditions: Dict[str, Any]) -> str:
    kinds = conditions["versions"].values()
    versions = dict.fromkeys(f"{name} {number}" for kind in kinds for name, number in kind.items())
    waiting = ", ".join(f"{threads_text(int(n))} {policy}" for n, policy in conditions["omp_wait_policy"].items())
    load = "load average {:.1f} before, {:.1f} after".format(*conditions["load_average"])
    kind = f" ({conditions['processor_kind']})" if conditions.get("processor_kind") else ""
    return (
        f"{conditions['processor']}{kind}, {conditions['processors']} processors; OMP_WAIT_POLICY: {waiting}; {load}; "
        f"{', '.join(versions)}; {conditions['date']}, commit {conditions['commit'] or 'unknown'}"
    )


def _setting(row: Row) -> Tuple[int, int]:
    return row["threads"], row["batch"]


def _settings(rows: Sequence[Row]) -> List[Tuple[int, int]]:
    return list(dict.fromkeys(map(_setting, rows)))


def _cell(row: Row) -> str:
    text = f"{row['minimum_ms']:.2f} ({row['median_ms']:.2f})"
    return text if row["batch"] == 1 else f"{text}, {row['images_per_s']:.0f} images/s"


def _memory(row: Row) -> str:
    return f"{row['peak_bytes'] / 1e6:.0f} MB (+{(row['peak_bytes'] - row['import_bytes']) / 1e6:.0f})"
