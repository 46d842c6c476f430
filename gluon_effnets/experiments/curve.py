"""Score over cost of an experiment's networks: what a number such as CondenseNetV2's S costs and gives."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..intervals import mean_interval
from ..pictures import load_pyplot, save_picture

__all__ = ["COSTS", "curve_points", "draw_curve", "half_width"]

# Keys of the collected rows, with what they are called in the picture.
COSTS = {"params": "thousand parameters as deployed", "madds": "thousand multiply-adds"}


def curve_points(rows: Sequence[Mapping[str, Any]], cost: str) -> Dict[str, Tuple[int, List[float]]]:
    """Return {comparison: (cost, scores of all seeds)}, from the least cost to the largest.

    Args:
        rows: Of `collect`; those without the cost are left out.
        cost: A key of `COSTS`.
    """
    found: Dict[str, Tuple[int, List[float]]] = {}
    known = [row for row in rows if row[cost] is not None]
    for row in sorted(known, key=lambda row: (row[cost], row["seed"])):
        found.setdefault(row["comparison"], (row[cost], []))[1].append(row["score"])
    return found


def half_width(scores: Sequence[float]) -> Optional[float]:
    """Half of the mean's 95 % interval; None for a single score, which has none."""
    interval = mean_interval(scores)
    return interval.high - interval.mean if len(scores) > 1 else None


def draw_curve(rows: Sequence[Mapping[str, Any]], cost: str, score: str, picture: Path) -> None:
    """Draw every seed of each comparison over its cost, and its mean with the 95 % interval if there are several seeds.

    The means are joined where every comparison has a cost of its own: networks of equal cost are no curve.

    Args:
        rows: Of `collect`.
        cost: A key of `COSTS`.
        score: What the scores are.
        picture: The PNG file to write.
    """
    figure, axes = load_pyplot("curves of experiments").subplots(figsize=(6, 4), constrained_layout=True)
    found = curve_points(rows, cost)
    places = [amount / 1e3 for amount, _ in found.values()]
    means = [statistics.mean(scores) for _, scores in found.values()]
    if len(set(places)) == len(places):
        axes.plot(places, means, color="C0", lw=1, alpha=0.5)
    for (name, (_, scores)), place, mean in zip(found.items(), places, means):
        axes.plot([place] * len(scores), scores, "o", color="C0", ms=4, alpha=0.5)
        half = half_width(scores)
        if half is not None:
            axes.errorbar(place, mean, yerr=half, fmt="_", color="C0", ms=10, capsize=3, lw=1)
        axes.annotate(name, (place, mean), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel=COSTS[cost], ylabel=f"{score} of held-out images, %")
    axes.grid(alpha=0.3)
    save_picture(figure, picture, dpi=100)
