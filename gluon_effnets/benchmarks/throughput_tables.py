"""A measurement of throughput as text."""

from __future__ import annotations

from typing import Dict

from ..tables import Table
from ..timing import conditions_line
from .projection import projection_table
from .throughput import PHASES

__all__ = ["throughput_tables"]


def throughput_tables(result: dict) -> str:
    """A result of `benchmark_train` or `benchmark_data` as Markdown tables."""
    parts = [_head(result), _rates_table(result["rates"])]
    if result["kind"] == "train":
        parts.append(_phases_table({result["model"]: result["phases"], **result["torch_phases"]}))
        parts.append(_communication_line(result["communication"], result["workers"]))
        if result.get("projection"):
            parts.append("Projection, not measured:\n\n" + projection_table(result["projection"]))
    return "\n\n".join(parts)


def _head(result: dict) -> str:
    how = f"{result['rounds']} rounds of {result['steps']} batches of {result['batch_size']}"
    lines = [result["data"], f"{how}; {conditions_line(result['machine'])}"]
    if result["kind"] == "train":
        workers = f"{result['workers']} worker(s) on {result['context']}"
        lines.insert(0, f"{result['model']}, {result['precision']}, {workers}")
    return "\n".join(lines)


def _rates_table(rates: Dict[str, dict]) -> str:
    keys = ("images_per_s", "best_images_per_s", "cpu_ms_per_image")
    titles = ("images/s (median)", "best round", "processor ms / image")
    lines = [(name, *(rate[key] for key in keys)) for name, rate in rates.items()]
    return Table(["way", *((title, ".4g") for title in titles)], lines).markdown()


def _phases_table(measured: Dict[str, Dict[str, dict]]) -> str:
    names = [name for name in PHASES if any(name in phases for phases in measured.values())]
    lines = []
    for who, phases in measured.items():
        cells = [f"{phases[n]['ms']:.4g} ({phases[n]['share']:.1%})" if n in phases else None for n in names]
        lines.append((who, *cells))
    return Table(["ms (share)", *names], lines).markdown()


def _communication_line(communication: dict, workers: int) -> str:
    text = f"gradients: {communication['bytes_per_update'] / 1e6:.2f} MB per update in {communication['arrays']} arrays"
    if workers > 1:
        text += f", exchanged in {communication['ms']:.1f} ms ({communication['gbit_per_s']:.2f} Gbit/s of a ring)"
    return text
