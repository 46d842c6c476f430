"""What a search leaves: a table, a picture with the Pareto front, and the winner as a recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import yaml

from ..files.write import write_text
from ..pictures import load_pyplot, save_picture
from ..tables import Table
from ..train.config import Recipe

__all__ = ["Found", "Row", "draw_search", "front", "search_table", "write_winner"]


class Row(NamedTuple):
    """A network of a search. `latency_ms` is None without a table of latencies; `rules` are names it has besides."""

    label: str
    params: int
    madds: int
    latency_ms: Optional[float]
    score: float
    rules: Sequence[str] = ()

    @property
    def cost(self) -> float:
        """What the front is over: the latency where there is one, else multiply-adds in millions."""
        return self.madds / 1e6 if self.latency_ms is None else self.latency_ms


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found: all rows within the budget, the front, the winner, and lines to be said about them."""

    rows: List[Row]
    front: List[Row]
    winner: Row
    lines: List[str]


def front(rows: Sequence[Row]) -> List[Row]:
    """The networks with a higher score than all cheaper ones, the cheapest first."""
    found: List[Row] = []
    for row in sorted(rows, key=lambda row: (row.cost, -row.score)):
        if not found or row.score > found[-1].score:
            found.append(row)
    return found


def search_table(rows: Sequence[Row], score: str, label: str = "IdleBlocks") -> Table:
    """The rows as a table, `label` above what tells them apart; a column for latency where it is known."""
    timed = any(row.latency_ms is not None for row in rows)
    columns: List[Any] = [label, ("params, M", ".3f"), ("MAdds, M", ".2f")]
    columns += [("latency, ms", ".2f")] if timed else []
    columns += [(score, ".4f"), "rule"]
    values = [
        [r.label, r.params / 1e6, r.madds / 1e6, *([r.latency_ms] if timed else []), r.score, ", ".join(r.rules)]
        for r in rows
    ]
    return Table(columns, values)


def draw_search(rows: Sequence[Row], score: str, path: Path, budget: Optional[float], greedy: Sequence[Row]) -> None:
    """Draw score against cost as a PNG: all networks, the front, the budget, and the paper's greedy path.

    Raises ImportError without matplotlib.
    """
    pyplot = load_pyplot("the picture of a search")
    timed = any(row.latency_ms is not None for row in rows)
    figure, axes = pyplot.subplots(figsize=(8, 5.5), constrained_layout=True)
    axes.plot([row.cost for row in rows], [row.score for row in rows], ".", color="lightgray", label="all networks")
    best = front(rows)
    axes.plot([row.cost for row in best], [row.score for row in best], "o-", ms=4, label="Pareto front")
    if greedy:
        axes.plot([row.cost for row in greedy], [row.score for row in greedy], "s--", ms=4, label="adjacent (greedy)")
    for row in rows:
        for rule in row.rules:
            axes.annotate(rule, (row.cost, row.score), (4, 4), textcoords="offset points", fontsize=8)
    if budget is not None and not timed:
        axes.axvline(budget / 1e6, color="C3", lw=1, label="budget")
    axes.set(xlabel="latency by the table, ms" if timed else "multiply-adds, millions", ylabel=score)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save_picture(figure, path)


def write_winner(recipe: Recipe, choice: Dict[str, Any], label: str, path: Path) -> None:
    """Write the recipe that trains a network of a search.

    Args:
        recipe: Gives everything but the network.
        choice: `model` and `model_options`, as `Space.recipe` gives them.
        label: What was chosen, for the first line.
        path: Of the YAML file.
    """
    content = {**recipe.as_dict(), **choice}
    if content["task"] == "single_path":
        smoothing = content["task_options"].get("label_smoothing", 0.0)
        content.update(task="classification", task_options={"label_smoothing": smoothing})
    text = yaml.safe_dump(content, sort_keys=False)
    write_text(
        path,
        f"# The winner of a search: {label}.\n#   python train_imagenet.py --config {path.name}\n{text}",
    )
