"""The fastest of ours beside the fastest of PyTorch's, in the same runtime and in any, by pairs of repetitions."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from ...tables import Table
from ...timing import Speedup, speedup
from .networks import LATENCY_RUNTIMES

__all__ = ["compare", "comparisons_table", "is_peer", "kind_of", "threads_text"]

Row = Dict[str, Any]
PLACES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "": "any runtime"}


def is_peer(row: Row) -> bool:
    """Whether a row is of PyTorch's network."""
    return _runtime(row).is_peer


def kind_of(row: Row) -> str:
    """The kind of process in which a row was measured."""
    return _runtime(row).kind


def _runtime(row: Row):
    return LATENCY_RUNTIMES[row["runtime"].split()[0]]  # behind it may stand the form of an aligned graph


def compare(rows: Sequence[Row], baseline: Optional[str] = None) -> List[Dict[str, Any]]:
    """The comparisons of float32 rows by their medians, ready for JSON.

    For every network, batch and number of threads: the fastest of ours against the fastest peer in ONNX Runtime, in
    OpenVINO, and of all. With `baseline` also the fastest of ours for the other networks against the fastest of ours
    for this one. `ratio` says how many times as fast ours is, with its 95 % interval; see `timing.speedup`. Rows
    without times of single repetitions are not compared.
    """
    rows = [row for row in rows if row.get("ms") and not row["int8"]]
    ours, peers = _fastest(row for row in rows if not is_peer(row)), _fastest(row for row in rows if is_peer(row))
    found = [_pair(ours[key], peers[key], key[3]) for key in ours if key in peers]
    if baseline:
        keys = ((key, (baseline, *key[1:])) for key in ours if key[0] != baseline)
        found += [_pair(ours[key], ours[other], key[3]) for key, other in keys if other in ours]
    return found


def _fastest(rows: Iterable[Row]) -> Dict[Tuple[str, int, int, str], Row]:
    best: Dict[Tuple[str, int, int, str], Row] = {}
    for row in rows:
        for place in PLACES:
            key = (row["model"], row["threads"], row["batch"], place)
            if place in ("", kind_of(row)) and (key not in best or row["median_ms"] < best[key]["median_ms"]):
                best[key] = row
    return best


def _pair(ours: Row, other: Row, place: str) -> Dict[str, Any]:
    setting = {key: ours[key] for key in ("model", "threads", "batch")}
    against = {} if other["model"] == ours["model"] else {"against": other["model"]}
    runtimes = {"place": PLACES[place], "ours": ours["runtime"], "other": other["runtime"]}
    medians = {"ours_median_ms": ours["median_ms"], "other_median_ms": other["median_ms"]}
    return {**setting, **against, **runtimes, **medians, **speedup(ours["ms"], other["ms"]).record()}


def comparisons_table(comparisons: Sequence[Dict[str, Any]]) -> str:
    """All comparisons as Markdown, those with a baseline as a second table; empty if there are none."""
    parts = []
    for has_baseline in (False, True):
        found = [one for one in comparisons if ("against" in one) == has_baseline]
        if found:
            parts.append(_table(found, "against" if has_baseline else "PyTorch's"))
    return "\n\n".join(parts)


def _table(found: Sequence[Dict[str, Any]], other: str) -> str:
    columns = ["network", "", "in", "ours", ("ms", ".2f"), other, ("ms", ".2f"), "ours is so many times as fast"]
    lines = []
    models, places = list(dict.fromkeys(one["model"] for one in found)), list(PLACES.values())
    found = sorted(found, key=lambda one: (models.index(one["model"]), places.index(one["place"])))
    for one in sorted(found, key=lambda one: (one["threads"], one["batch"])):
        ratio = Speedup(*(one[key] for key in ("ratio", "ratio_low", "ratio_high", "repetitions")))
        against = ", ".join(filter(None, (one.get("against"), one["other"])))
        times = [one["ours"], one["ours_median_ms"], against, one["other_median_ms"]]
        setting = f"batch {one['batch']}, {threads_text(one['threads'])}"
        lines.append([one["model"], setting, one["place"], *times, str(ratio)])
    return Table(columns, lines).markdown()


def threads_text(number: int) -> str:
    """'1 thread', '2 threads'."""
    return f"{number} thread" + ("s" if number > 1 else "")
