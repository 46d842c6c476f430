"""Accuracy over parameters of the runs of a group: what S = 1 ... G of the reactivations costs and gives."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

__all__ = ["CURVES", "draw_curve", "points"]

# Groups of small_scale_evidence.py of which such a picture is drawn.
CURVES = ("condensenet_factors", "sfr_shufflenet")


def points(rows: Sequence[dict]) -> Dict[str, Tuple[int, List[float]]]:
    """Return {comparison: (parameters as deployed, top-1 of all seeds in %)}, from few parameters to many."""
    found: Dict[str, Tuple[int, List[float]]] = {}
    for row in sorted(rows, key=lambda row: (row["params"], row["seed"])):
        found.setdefault(row["comparison"], (row["params"], []))[1].append(row["top1"])
    return found


def draw_curve(rows: Sequence[dict], picture: Path) -> None:
    """Draw the mean and every seed of each comparison over its parameters."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), constrained_layout=True)
    found = points(rows)
    params = [count / 1e3 for count, _ in found.values()]
    axes.plot(params, [statistics.mean(top1) for _, top1 in found.values()], "-", color="C0", lw=1)
    for (name, (_, top1)), x in zip(found.items(), params):
        axes.plot([x] * len(top1), top1, "o", color="C0", ms=4)
        axes.annotate(name, (x, statistics.mean(top1)), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="thousand parameters as deployed", ylabel="held-out top-1, %")
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=100)
    pyplot.close(figure)
