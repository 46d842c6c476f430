"""A latency measurement as a picture: cost and accuracy of every network against its latency, with the Pareto front."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence

from ...pictures import load_pyplot, save_picture
from .tables import best_rows

__all__ = ["Point", "draw_latency", "pareto_front"]


class Point(NamedTuple):
    """A network: its published accuracy in percent, and its latency in ms."""

    label: str
    top1: float
    latency: float


def pareto_front(points: Sequence[Point]) -> List[Point]:
    """The networks that are better than all faster ones, the fastest first."""
    front: List[Point] = []
    for point in sorted(points, key=lambda point: (point.latency, -point.top1)):
        if not front or point.top1 > front[-1].top1:
            front.append(point)
    return front


def draw_latency(result: Dict[str, Any], picture) -> None:
    """Draw what `measure` returned as a PNG: MAdds, and published top-1 where known, against the best latency.

    The best is the fastest float32 form outside PyTorch at the first number of threads and the first batch. Raises
    ImportError without matplotlib.
    """
    pyplot = load_pyplot("the picture of latencies")
    conditions, models = result["conditions"], result["models"]
    threads, batch = conditions["threads"][0], conditions["batches"][0]
    best = {key[0]: row for key, row in best_rows(result["rows"]).items() if key[1:] == (threads, batch)}
    scores = [Point(m, models[m]["published_top1"], best[m]["minimum_ms"]) for m in best if models[m]["published_top1"]]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5.5), constrained_layout=True)
    ms = f"ms, batch {batch}, {threads} thread{'s' if threads > 1 else ''}, fastest float32 form"
    for model, row in best.items():
        if models[model]["madds"]:
            _mark(left, model, models[model]["madds"] / 1e6, row["minimum_ms"])
    for point in scores:
        _mark(right, point.label, point.latency, point.top1)
    left.set(xlabel="multiply-adds, millions", ylabel=ms)
    right.set(xlabel=ms, ylabel="published top-1, %")
    front = pareto_front(scores)
    right.plot([point.latency for point in front], [point.top1 for point in front], "--", color="gray")
    figure.suptitle(f"{conditions['processor']}, minimum of {conditions['repeats']}; dashed: none is faster and better")
    save_picture(figure, picture)


def _mark(axes, label: str, x: float, y: float) -> None:
    axes.plot(x, y, "o", color="C0")
    axes.annotate(label, (x, y), (4, 3), textcoords="offset points", fontsize=7)
    axes.grid(alpha=0.3)
    axes.margins(x=0.22)  # room for the last name
