"""Measurements kept by processor: a file for each, to which a run adds itself; the newest numbers as tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from ...files.side_json import read_json
from ...files.write import write_text
from .comparisons import comparisons_table
from .tables import conditions_line, rows_table

__all__ = ["add_run", "measured_tables"]

Result = Dict[str, Any]


def add_run(folder, result: Result) -> Path:
    """Add what `measure` returned to the file of this processor in a folder, and return the file.

    The file is named by `processor_kind` of `timing.machine`, where the system tells it, so that another machine has
    another file. It holds {'processor', 'processor_kind', 'runs'}, the oldest run first.
    """
    about = {key: result["conditions"][key] for key in ("processor", "processor_kind")}
    name = re.sub(r"[^a-z0-9]+", "-", (about["processor_kind"] or about["processor"]).lower()).strip("-")
    path = Path(folder) / f"{name or 'unknown'}.json"
    runs = _runs(path) if path.is_file() else []
    write_text(path, json.dumps({**about, "runs": [*runs, result]}) + "\n")
    return path


def _runs(path: Path) -> List[Result]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("runs"), list):
        raise ValueError(f"{path} holds no measurements by processor: name another folder, or move it away")
    return content["runs"]


def measured_tables(measured: Sequence[Dict[str, Any]]) -> str:
    """What the files of all processors hold, as Markdown: comparisons, all times, and the conditions of every run.

    Of a network, setting and runtime that was measured again, the newest times stand there.
    """
    return "\n\n".join(_of_processor(one) for one in measured if one["runs"])


def _of_processor(one: Dict[str, Any]) -> str:
    runs: List[Result] = one["runs"]
    compared = _newest([run.get("comparisons", []) for run in runs], ("model", "threads", "batch", "place", "against"))
    rows = _newest([run["rows"] for run in runs], ("model", "threads", "batch", "runtime"))
    models = {name: about for run in runs for name, about in run["models"].items()}
    kind = f" (`{one['processor_kind']}`)" if one.get("processor_kind") else ""
    order = {name: place for place, name in enumerate(models)}
    by_model = sorted(rows, key=lambda row: order[row["model"]])
    parts = [f"### {one['processor']}{kind}"]
    if compared:
        parts.append(comparisons_table(sorted(compared, key=lambda found: order[found["model"]])))
    parts.append(rows_table({"rows": by_model, "models": models}))
    used = [run for run in runs if any(row in rows for row in run["rows"])]
    parts += [conditions_line(run["conditions"]) for run in used]
    return "\n\n".join(parts)


def _newest(lists: Sequence[List[Dict[str, Any]]], keys: Sequence[str]) -> List[Dict[str, Any]]:
    found: Dict[Tuple, Dict[str, Any]] = {}
    for rows in lists:
        found.update({tuple(row.get(key) for key in keys): row for row in rows})
    return list(found.values())
