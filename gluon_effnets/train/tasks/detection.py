"""Detection: boxes and their classes, by the losses that a detector has, scored by average precision."""

from __future__ import annotations

import math
from typing import Dict, Optional

import mxnet as mx
from mxnet import autograd

from ...detection import Losses
from ...detection.average_precision import KINDS, DetectionScores
from ...files.text import shortened
from ..hooks.mixup import CutMix, Mixup
from .base import Task

__all__ = ["Detection"]


class Detection(Task):
    """One forward, one backward, of the losses of a detector.

    Every part of the loss is divided by its count over all workers, such as the anchors that have a box, so that a
    worker whose images have few boxes weighs no more than they do: the update is that of one worker with all images.

    An evaluation has the scores `map`, `ap_<class>` of every class that is there, and the parts of the loss.

    Args:
        metric: 'voc07' (11 points, the papers' mAP), 'voc12' (area under the curve) or 'coco' (mean over overlaps).
    """

    best_of = "map"
    detects = True

    def __init__(self, metric: str = "voc07"):
        if metric not in KINDS:
            raise ValueError(f"task_options.metric is {shortened(metric)}; choose one of {', '.join(KINDS)}")
        self.metric = metric
        self._scores: Optional[DetectionScores] = None
        self._counts: Optional[mx.nd.NDArray] = None

    def prepare(self, state, hooks):
        for hook in hooks:
            if isinstance(hook, (CutMix, Mixup)):
                name = type(hook).__name__.lower()
                raise ValueError(f"hooks.{name} mixes images with one label each, not boxes: leave it out of detection")

    def step(self, state, batch, backward):
        with autograd.record():
            losses = state.net.losses(batch.data, batch.boxes, batch.label)
            counts = self._mean_counts(state, losses)
            parts = {part: losses.sums[part] / mx.nd.maximum(counts[part], 1) for part in losses.sums}
            loss = mx.nd.add_n(*parts.values())
        backward(loss)
        return {"loss": loss, **{f"loss_{part}": value for part, value in parts.items()}}

    def _mean_counts(self, state, losses: Losses) -> Dict[str, mx.nd.NDArray]:
        """The counts as means over the workers, by one exchange for all of them: so are the gradients."""
        if state.workers.size == 1:
            return losses.counts
        with autograd.pause():
            counts = mx.nd.concat(*losses.counts.values(), dim=0)
            if self._counts is None:
                self._counts = counts.copy()
            # Exchanges of one name must not meet: in one array they wait for each other.
            counts.copyto(self._counts)
            state.workers.average_in_update_(self._counts, "counts")
            means = self._counts.copy()
        return {part: means[place : place + 1] for place, part in enumerate(losses.counts)}

    def begin_evaluation(self, state):
        self._scores = DetectionScores(_classes(state.net), self.metric)

    def evaluate(self, state, batch):
        number = batch.num_valid
        images, boxes, label = (
            array if number == len(array) else array[:number] for array in (batch.data, batch.boxes, batch.label)
        )
        losses = state.net.losses(images, boxes, label)
        found = state.net.detect(images, [truth.size for truth in batch.truths])
        for truth, *detections in zip(batch.truths, *(array.asnumpy() for array in found)):
            self._scores.add(truth, *detections)
        sums = {f"sum_{part}": value.asscalar() for part, value in losses.sums.items()}
        counts = {f"count_{part}": value.asscalar() for part, value in losses.counts.items()}
        return {"count": number, **{key: float(value) for key, value in {**sums, **counts}.items()}}

    def finish_evaluation(self, state, sums):
        own, self._scores = self._scores.rows(), None
        rows = state.workers.gather(own, "detections")
        result = DetectionScores.of_rows(_classes(state.net), self.metric, rows).result()
        by_class = {f"ap_{name}": value for name, value in result.by_class.items()}
        figures = result.figures if self.metric == "coco" else {}
        parts = [key[len("sum_") :] for key in sums if key.startswith("sum_")]
        losses = {f"loss_{part}": sums[f"sum_{part}"] / max(1.0, sums[f"count_{part}"]) for part in parts}
        # Of a class that is on no image there is no precision.
        scores = {"map": result.mean, "loss": sum(losses.values()), **losses, **figures, **by_class}
        return {key: float(value) for key, value in scores.items() if not math.isnan(value)}


def _classes(net):
    return net.num_classes if net.classes is None else net.classes
