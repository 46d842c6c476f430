"""What a finished run of a detector leaves beside its weights: exported files, costs, precision by class."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple

import mxnet as mx

from ..complexity import count
from ..deploy import export
from ..detection import Detector
from ..timing import time_interleaved
from .config import Recipe
from .state import TrainState

__all__ = ["DetectionFigures", "detection_figures", "precision_rows"]

Rows = List[Tuple[str, str]]
_MOST_CLASSES = 20  # in the table; the others are in result.json


class DetectionFigures(NamedTuple):
    """Of a detector: what result.json holds, and the rows of the table that it prints."""

    values: Dict[str, Any]
    rows: Rows


def detection_figures(state: TrainState, recipe: Recipe) -> DetectionFigures:
    """Export a detector, if there is a way out for it, and measure it with the choice of its boxes.

    Raises ValueError if the files do not give its answers.
    """
    net, size = state.net, recipe.data.image_size
    madds, latency = count(net, size).madds, _latency(net)
    values: Dict[str, Any] = {"madds": madds, "latency_ms": {"plain": latency}}
    rows = [
        ("MAdds (conv)", f"{madds:,}"),
        ("latency, batch 1", f"{latency:.2f} ms with the choice of boxes (minimum of 20)"),
    ]
    if net.not_exported:
        return DetectionFigures(values, [*rows, ("exported", f"nothing: {recipe.model} {net.not_exported}")])
    exported = export(net, state.out / recipe.file_name, size)
    values["export_difference"] = exported.difference
    rows += [
        ("exported", f"{exported.symbol}"),
        ("", f"{exported.params}"),
        ("loaded again", f"same detections, largest difference {exported.difference:.0e}"),
    ]
    return DetectionFigures(values, rows)


def _latency(net: Detector) -> float:
    x = mx.nd.random.normal(shape=(1, net.in_channels, net.image_size, net.image_size), ctx=mx.cpu())
    times = time_interleaved({"plain": lambda: [array.wait_to_read() for array in net.detect(x, x.shape[2:])]})
    return times["plain"].minimum


def precision_rows(result: Dict[str, Any]) -> Rows:
    """Return rows for what an evaluation of a detector says: the mean over the classes, and some of these."""
    rows = []
    for key, name in (("map", "mAP"), ("ema_map", "mAP, EMA weights"), ("AP50", "AP at 0.5"), ("AP75", "AP at 0.75")):
        if key in result:
            rows.append((name, f"{result[key]:.2%} of {result['images']:,} held-out images"))
    classes = [key for key in result if key.startswith("ap_")]
    rows += [(f"AP, {key[len('ap_') :]}", f"{result[key]:.2%}") for key in classes[:_MOST_CLASSES]]
    left = len(classes) - _MOST_CLASSES
    return rows + ([("", f"{left} more classes are in result.json")] if left > 0 else [])
