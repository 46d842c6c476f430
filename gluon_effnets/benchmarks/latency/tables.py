"""A latency measurement as Markdown tables: all rows, and the best of ours against PyTorch."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

from ...tables import Table

__all__ = ["against_torch", "best_rows", "conditions_line", "latency_tables", "memory_table", "rows_table"]

Row = Dict[str, Any]


def latency_tables(result: Dict[str, Any]) -> str:
    """Everything that `measure` found, as text."""
    compared = against_torch(result["rows"])
    parts = [rows_table(result), conditions_line(result["conditions"])]
    return "\n\n".join([*parts, *([compared] if compared else [])])


def rows_table(result: Dict[str, Any]) -> str:
    """A line per network and runtime, a column per number of threads and batch."""
    rows = result["rows"]
    settings = _settings(rows)
    remembered = _settings([row for row in rows if "peak_bytes" in row])
    header = ["model", "MAdds, M", "runtime", "size, MB", *(f"batch {b}, {_threads(n)}" for n, b in settings)]
    header += [f"memory at batch {b}, {_threads(n)}" for n, b in remembered]
    lines = []
    for model, runtime in dict.fromkeys((row["model"], row["runtime"]) for row in rows):
        found = {_setting(row): row for row in rows if (row["model"], row["runtime"]) == (model, runtime)}
        madds, size = result["models"][model]["madds"], next(iter(found.values()))["model_bytes"]
        line = [model, f"{madds / 1e6:.1f}" if madds else "", runtime, f"{size / 1e6:.1f}"]
        line += [_cell(found[setting]) if setting in found else "" for setting in settings]
        line += [_memory(found[setting]) if setting in found else "" for setting in remembered]
        lines.append(line)
    return Table(header, lines).markdown()


def against_torch(rows: Sequence[Row]) -> str:
    """The fastest of ours in float32, PyTorch's fastest and PyTorch eager; empty if PyTorch was not measured."""
    lines = []
    ours, theirs = best_rows(rows), best_rows(rows, torch=True)
    eager = {(row["model"], *_setting(row)): row for row in rows if row["runtime"] == "torch"}
    for key, best in theirs.items():
        if key not in ours:
            continue
        own, (model, threads, batch) = ours[key]["minimum_ms"], key
        line = [model, f"batch {batch}, {_threads(threads)}", ours[key]["runtime"], own]
        line += [best["runtime"], best["minimum_ms"], best["minimum_ms"] / own]
        slow = eager[key]["minimum_ms"] if key in eager else None
        line += [slow, slow / own] if slow else [None, None]
        lines.append(line)
    columns = ["model", "", "best here", ("ms", ".2f"), "best in PyTorch", ("ms", ".2f"), ("times ours", ".2f")]
    return Table([*columns, ("eager, ms", ".2f"), ("times ours", ".2f")], lines).markdown() if lines else ""


def memory_table(result: Dict[str, Any]) -> str:
    """What `measure` with `memory` found: a line per network and batch, a column per runtime."""
    rows = [row for row in result["rows"] if "peak_bytes" in row]
    runtimes = list(dict.fromkeys(row["runtime"] for row in rows))
    cells: Dict[Tuple[str, int], Dict[str, str]] = {}
    for row in rows:
        cells.setdefault((row["model"], row["batch"]), {})[row["runtime"]] = _memory(row)
    lines = [[model, n, *(found.get(name, "") for name in runtimes)] for (model, n), found in cells.items()]
    what = (
        f"largest resident memory of a process with {_threads(result['conditions']['threads'][0])}, in brackets "
        "the increase over what it had after importing the runtime"
    )
    table = Table(["model", "batch", *runtimes], lines).markdown()
    return f"{table}\n\n{_images(result['conditions'])}; {what}. {_machine(result['conditions'])}."


def best_rows(rows: Sequence[Row], torch: bool = False) -> Dict[Tuple[str, int, int], Row]:
    """{(model, threads, batch): row with the smallest minimum} of float32 rows; of PyTorch's, or of all others."""
    best: Dict[Tuple[str, int, int], Row] = {}
    for row in rows:
        key = (row["model"], *_setting(row))
        if row["int8"] or row["runtime"].startswith("torch") != torch:
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
    waiting = ", ".join(f"{_threads(int(n))} {policy}" for n, policy in conditions["omp_wait_policy"].items())
    load = "load average {:.1f} before, {:.1f} after".format(*conditions["load_average"])
    return (
        f"{conditions['processor']}, {conditions['processors']} processors; OMP_WAIT_POLICY: {waiting}; {load}; "
        f"{', '.join(versions)}; {conditions['date']}, commit {conditions['commit'] or 'unknown'}"
    )


def _setting(row: Row) -> Tuple[int, int]:
    return row["threads"], row["batch"]


def _settings(rows: Sequence[Row]) -> List[Tuple[int, int]]:
    return list(dict.fromkeys(map(_setting, rows)))


def _threads(number: int) -> str:
    return f"{number} thread" + ("s" if number > 1 else "")


def _cell(row: Row) -> str:
    text = f"{row['minimum_ms']:.2f} ({row['median_ms']:.2f})"
    return text if row["batch"] == 1 else f"{text}, {row['images_per_s']:.0f} images/s"


def _memory(row: Row) -> str:
    return f"{row['peak_bytes'] / 1e6:.0f} MB (+{(row['peak_bytes'] - row['import_bytes']) / 1e6:.0f})"
