"""Precision over recall of every class, as a picture."""

from __future__ import annotations

import math
from typing import Any

from ..pictures import load_pyplot, save_picture
from .detections import DetectionAnswers
from .detector import DetectorSubject

__all__ = ["draw_curves"]

_NAMED = 20  # curves that have a color and a name
_NAME_LENGTH = 28


def draw_curves(subject: DetectorSubject, answers: DetectionAnswers, picture: Any) -> None:
    """Draw precision over recall at an overlap of 0.5; of many classes, those with the most objects have names.

    Args:
        subject: What was asked.
        answers: To its evaluation images.
        picture: The file, whose ending says its format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    pyplot = load_pyplot("the curves")
    result = answers.result
    figure, axes = pyplot.subplots(figsize=(8.5, 6), constrained_layout=True)
    ordered = sorted(result.curves, key=lambda name: -result.counts[name].objects)
    for place, name in reversed(list(enumerate(ordered))):
        curve, ap = result.curves[name], result.by_class[name]
        own = {"color": f"C{place % 10}", "lw": 1.5, "ls": "-" if place < 10 else "--"}
        shown = name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..."
        if place < _NAMED:
            # A dollar begins a formula.
            own["label"] = f"{shown}: {ap:.1%} of {result.counts[name].objects:,}".replace("$", r"\$")
        else:
            own.update(color="0.8", lw=0.7)
        axes.plot([0, *curve.recall], [curve.precision[0] if len(curve.precision) else 0, *curve.precision], **own)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.grid(lw=0.3, alpha=0.6)
    mean = "no objects" if math.isnan(result.mean) else f"mAP {result.mean:.2%} ({result.kind})"
    axes.set_title(f"{subject.model}: {mean}, {result.images:,} images, curves at an overlap of 0.5", fontsize=10)
    if ordered:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save_picture(figure, picture)
