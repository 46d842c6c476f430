"""What a detector finds on every evaluation image, and the scores that follow."""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from mxnet import autograd

from ..detection.average_precision import DetectionScores, ScoreResult
from ..detection.average_precision.scores import Seen
from ..progress import progress_bar
from ..train.memory_format import restore_layout
from .detector import DetectorSubject

__all__ = ["BoxClassRow", "DetectionAnswers", "SeenScene", "ask_detector", "best_score", "box_class_rows"]


class SeenScene(NamedTuple):
    """An evaluation image: its place in the evaluation, what the detector was shown, its own AP, and all its boxes."""

    place: int
    input: np.ndarray
    average_precision: float
    seen: Seen


class DetectionAnswers(NamedTuple):
    """What was found on all evaluation images.

    Attributes:
        collected: The objects and detections of every image.
        result: Their scores.
        worst, best: Images of the lowest and of the highest average precision of their own, the most extreme first.
    """

    collected: DetectionScores
    result: ScoreResult
    worst: Tuple[SeenScene, ...] = ()
    best: Tuple[SeenScene, ...] = ()

    @property
    def scores(self) -> Dict[str, float]:
        """`map`, 0 to 1, and for COCO its 12 figures."""
        return {"map": self.result.mean, **self.result.figures}

    @property
    def bounds(self) -> Dict[str, Tuple[float, float]]:
        """The 95 % confidence interval of `map`, by the bootstrap over the images."""
        return {"map": self.result.interval()}


def ask_detector(subject: DetectorSubject, metric: str = "voc07", worst: int = 0, best: int = 0) -> DetectionAnswers:
    """Show a detector all its evaluation images, each once, and score its boxes in pixels of the originals.

    Args:
        subject: The detector and the images.
        metric: 'voc07', 'voc12' or 'coco'; see `DetectionScores`.
        worst, best: How many images of the lowest and of the highest average precision are kept. That of a single image
            is the mean over the classes on it, at an overlap of 0.5; images without objects have none.

    Raises:
        ValueError: A detection is no number.
    """
    data = subject.data
    collected = DetectionScores(subject.classes or data.num_classes, metric)
    lowest: List[SeenScene] = []
    highest: List[SeenScene] = []
    place = 0
    bar: Dict[str, Any] = {"total": data.num_val, "desc": "evaluation", "unit": " images", "delay": 2}
    with autograd.predict_mode(), progress_bar(**bar) as done:
        for batch in data.val_batches():
            boxes, scores, classes = subject.detect(batch)
            for row, truth in enumerate(batch.truths):
                collected.add(truth, boxes[row], scores[row], classes[row])
                own = _own_precision(collected, truth.image) if worst or best else math.nan
                if not math.isnan(own):
                    scene = SeenScene(place + row, batch.data[row].asnumpy(), own, collected.image(truth.image))
                    lowest = sorted([*lowest, scene], key=lambda scene: scene.average_precision)[:worst]
                    highest = sorted([*highest, scene], key=lambda scene: -scene.average_precision)[:best]
            place += batch.num_valid
            done.update(batch.num_valid)
    if subject.net is not None:
        restore_layout(subject.net)
    assert place == data.num_val, f"evaluated {place} of {data.num_val} images"
    return DetectionAnswers(collected, collected.result(), tuple(lowest), tuple(highest))


def _own_precision(collected: DetectionScores, image: str) -> float:
    """The average precision of an image by itself."""
    alone = DetectionScores(collected.names, "voc12")
    alone.add(*collected.image(image))
    return alone.result().mean


def best_score(answers: DetectionAnswers, name: str) -> Optional[float]:
    """The score from which on the detections of a class have the highest F1; None where none finds anything."""
    curve = answers.result.curves.get(name)
    if curve is None or not curve.recall.any():
        return None
    f1 = 2 * curve.precision * curve.recall / np.maximum(curve.precision + curve.recall, 1e-12)
    return float(curve.scores[f1.argmax()])


class BoxClassRow(NamedTuple):
    """One class: its objects, how many of them detections find, and its average precision.

    `found` and `detections` are those of all scores, at an overlap of 0.5; `best_score` is the one from which on F1 is
    highest. What there is nothing to say of is None.
    """

    label: int
    name: str
    objects: int
    found: int
    detections: int
    ap: Optional[float]
    best_score: Optional[float]


def box_class_rows(answers: DetectionAnswers) -> List[BoxClassRow]:
    """Return a row for every class, in the order of the classes."""
    rows = []
    for label, (name, counts) in enumerate(answers.result.counts.items()):
        ap = answers.result.by_class[name]
        known = None if math.isnan(ap) else ap
        rows.append(
            BoxClassRow(label, name, counts.objects, counts.found, counts.detections, known, best_score(answers, name))
        )
    return rows
