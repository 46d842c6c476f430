"""Pictures of a search for cells: the cells that it found, and how the shares of operations moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from ..models.genotype import Edge, Genotype
from ..pictures import load_pyplot, save_picture

__all__ = ["draw_architecture", "draw_cells"]

_INPUTS = ("c(k-2)", "c(k-1)")


def draw_cells(genotype: Genotype, path: Path) -> None:
    """Draw both cells as a PNG. Raises ImportError without matplotlib."""
    pyplot = load_pyplot("the picture of cells")
    figure, both = pyplot.subplots(2, 1, figsize=(3 + 2 * genotype.nodes, 7), constrained_layout=True)
    for axes, (name, edges) in zip(both, genotype._asdict().items()):
        _draw_cell(axes, edges)
        axes.set_title({"normal": "normal cell", "reduce": "reduction cell"}[name], loc="left", fontsize=10)
    save_picture(figure, path)


def _draw_cell(axes: Any, edges: List[Edge]) -> None:
    nodes = len(edges) // 2
    places = [(0.0, 1.0), (0.0, -1.0), *((2.0 * node + 2, 0.6 * (-1) ** node) for node in range(nodes))]
    names = [*_INPUTS, *map(str, range(2, nodes + 2))]
    for place, edge in enumerate(edges):
        start, end = places[edge.source], places[2 + place // 2]
        # Both edges of a node, and those of neighbors, would hide each other.
        bend = 0.12 if place % 2 else -0.12
        arrow = {"arrowstyle": "->", "color": f"C{place % 2}", "shrinkA": 14, "shrinkB": 14}
        axes.annotate("", end, start, arrowprops={**arrow, "connectionstyle": f"arc3,rad={bend}"})
        share = 0.35 if place % 2 else 0.65
        at = [one + share * (other - one) for one, other in zip(start, end)]
        box = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8}
        axes.text(*at, edge.operation, fontsize=7, ha="center", va="center", color=f"C{place % 2}", bbox=box)
    for name, (x, y) in zip(names, places):
        axes.text(x, y, name, ha="center", va="center", fontsize=9, bbox={"boxstyle": "round", "fc": "lightgray"})
    axes.set(xlim=(-1, 2 * nodes + 1.5), ylim=(-1.5, 1.5))
    axes.axis("off")


def draw_architecture(history: Dict[str, Any], path: Path) -> None:
    """Draw how the shares of all operations moved, as the mean over the edges of a cell, as a PNG.

    Args:
        history: Content of `architecture.json`.
        path: Of the picture.
    """
    pyplot = load_pyplot("the picture of architecture weights")
    figure, both = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, constrained_layout=True)
    updates = [row["update"] for row in history["epochs"]]
    for axes, cell in zip(both, ("normal", "reduce")):
        shares = np.array([row[cell] for row in history["epochs"]]).mean(axis=1)
        for place, name in enumerate(history["operations"]):
            style = {"color": "gray", "ls": ":"} if name == "none" else {"color": f"C{place - 1}"}
            axes.plot(updates, shares[:, place], marker=".", label=name, **style)
        axes.set(xlabel="updates", title={"normal": "normal cell", "reduce": "reduction cell"}[cell])
        axes.grid(alpha=0.3)
    both[0].set_ylabel("share, mean over the edges")
    both[1].legend(fontsize=8)
    save_picture(figure, path)
