"""Boxes: from offsets to corners, the best of them chosen class by class, all inside the graph; and back to offsets."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ..files.text import shortened
from ..runtime.detections import Choice, Limit, choose

__all__ = [
    "PLAIN",
    "VARIANCES",
    "Detections",
    "LevelDetections",
    "Selection",
    "Variances",
    "best_rows",
    "decode",
    "encode",
    "rows_at",
]

Variances = Tuple[float, float, float, float]
# Of SSD: offsets of a center are in tenths of the anchor's side, those of the logarithm of a side in fifths.
VARIANCES: Variances = (0.1, 0.1, 0.2, 0.2)
# Offsets as they are.
PLAIN: Variances = (1.0, 1.0, 1.0, 1.0)
# The largest whole number up to which float32 has them all.
EXACT = 1 << 24


class Selection(NamedTuple):
    """How detections are chosen among all boxes.

    Attributes:
        score_above: Boxes of lower scores are dropped.
        overlap: Of two boxes of a class that overlap more (intersection over union), the one of lower score is dropped.
        per_class: Boxes of a class, by score, among which overlaps are looked for; None: all of them.
        per_image: Detections of an image, by score.
        scores: 'softmax' over all classes and the background, or 'sigmoid' of every class by itself.
        largest_growth: Of a side of an anchor; None: any.
        inside: Whether boxes are cut to the image before overlaps are looked for.
        per_level: Of `LevelDetections`: pairs of a box and a class of a map, by score, among which overlaps are looked
            for, in place of `per_class`; None: all of them.
    """

    score_above: float = 0.01
    overlap: float = 0.45
    per_class: Optional[int] = None
    per_image: int = 100
    scores: str = "softmax"
    largest_growth: Optional[float] = None
    inside: bool = False
    per_level: Optional[int] = None


class Detections(HybridBlock):
    """Decode boxes and choose the best: logits (N, P, classes + 1) and offsets (N, P, 4) -> boxes, scores, classes.

    Boxes (N, K, 4) are x and y of two corners in shares of the image, scores (N, K) fall, classes (N, K) count from 0
    without the background; K is `Selection.per_image`. Places without a detection hold -1 in all three.

    Overlaps are looked for in every class by itself, unlike in GluonCV's SSD, where 400 boxes of all classes compete.

    Args:
        anchors: (P, 4), see `anchor_boxes`.
        classes: Number of classes, without the background.
        selection: How detections are chosen.
        variances: Units of the offsets, see `decode`.

    Raises:
        ValueError: For another way to make scores.
    """

    def __init__(
        self,
        anchors: np.ndarray,
        classes: int,
        selection: Selection = Selection(),
        variances: Variances = VARIANCES,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if selection.scores not in ("softmax", "sigmoid"):
            raise ValueError(f"scores={shortened(selection.scores)}; choose 'softmax' or 'sigmoid'")
        self.num_anchors, self.num_classes, self.selection = len(anchors), classes, selection
        self.variances = variances
        with self.name_scope():
            self.anchors = self.params.get_constant("anchors", anchors[None].astype(np.float32))

    @property
    def choice(self) -> Choice:
        """How detections are chosen, for whatever chooses them outside of this layer."""
        chosen, number = self.selection, self.num_anchors
        all_compete = chosen.per_class is None or chosen.per_class >= number
        limits = () if all_compete else (Limit(0, number, chosen.per_class or number),)
        return Choice(chosen.score_above, chosen.overlap, chosen.per_image, limits)

    def every(self, logits, offsets):
        """Return all boxes (N, P, 4), in shares of the image, and their scores (N, P, classes): nothing is chosen."""
        symbolic = isinstance(logits, mx.sym.Symbol)
        F, anchors = (mx.sym, self.anchors.var()) if symbolic else (mx.nd, self.anchors.data(logits.context))
        return self._decoded(F, offsets, anchors), self._scores(F, logits)

    def hybrid_forward(self, F, logits, offsets, anchors):
        chosen = self.selection
        boxes = self._decoded(F, offsets, anchors)
        scores = F.transpose(self._scores(F, logits), axes=(0, 2, 1))
        kept = self.num_anchors if chosen.per_class is None else min(chosen.per_class, self.num_anchors)
        # One row of the operator's batch is one class of one image.
        rows = F.broadcast_axis(F.expand_dims(boxes, axis=1), axis=1, size=self.num_classes)
        rows = F.reshape(F.concat(F.expand_dims(scores, axis=3), rows, dim=3), shape=(-3, 0, 0))
        limits = {"overlap_thresh": chosen.overlap, "valid_thresh": chosen.score_above, "topk": kept}
        rows = F.contrib.box_nms(rows, score_index=0, coord_start=1, **limits)
        # What is left stands first in every row, and no more of it can be among the detections.
        kept = min(kept, chosen.per_image)
        rows = F.reshape(F.slice_axis(rows, axis=1, begin=0, end=kept), shape=(-4, -1, self.num_classes, 0, 0))
        labels = F.slice_axis(rows, axis=3, begin=0, end=1)
        numbers = F.contrib.arange_like(labels, axis=1)
        labels = F.broadcast_like(F.reshape(numbers, shape=(1, -1, 1, 1)), labels)
        rows = F.reshape(F.concat(labels, rows, dim=3), shape=(0, -3, 0))
        return best_rows(F, rows, kept * self.num_classes, chosen, topk=chosen.per_image)

    def chosen(self, logits, offsets):
        """Return what a call does; on a CPU in a time that grows with the candidates, not with their square."""
        if logits.context.device_type != "cpu" or self.choice.limits:
            return self(logits, offsets)
        found = choose(*(array.astype("float32").asnumpy() for array in self.every(logits, offsets)), self.choice)
        return tuple(mx.nd.array(array, ctx=logits.context) for array in found)

    def _scores(self, F, logits):
        """Scores (N, P, classes), without the background."""
        scores = F.softmax(logits, axis=-1) if self.selection.scores == "softmax" else F.sigmoid(logits)
        return F.slice_axis(scores, axis=2, begin=1, end=None)

    def _decoded(self, F, offsets, anchors):
        """Corners (N, P, 4) in shares of the image."""
        corners = decode(F, offsets, anchors, self.variances, self.selection.largest_growth)
        return F.clip(corners, 0, 1) if self.selection.inside else corners


class LevelDetections(Detections):
    """`Detections` of a detector whose maps compete by themselves: the best pairs of a box and a class of every map.

    Of `Selection.per_level` pairs of every map, and of no more, overlaps are looked for, in every class by itself.

    Args:
        anchors, classes, selection, variances: Those of `Detections`.
        level_sizes: Number of the anchors of every map.
        apart: Whether overlaps count within a map alone; classes are then numbers of maps. For proposals, of one class.

    Source: RetinaNet, arXiv 1708.02002, section 4.1; torchvision and mmdetection choose pairs, too.
    """

    def __init__(
        self,
        anchors: np.ndarray,
        classes: int,
        selection: Selection,
        variances: Variances = VARIANCES,
        *,
        level_sizes: Sequence[int],
        apart: bool = False,
        **kwargs,
    ):
        super().__init__(anchors, classes, selection, variances, **kwargs)
        assert sum(level_sizes) == len(anchors), "every anchor is of a map"
        self._level_sizes, self._apart = tuple(level_sizes), apart

    @property
    def choice(self) -> Choice:
        best, limits, begin = self.selection.per_level, [], 0
        for size in self._level_sizes:
            if best is not None and best < size * self.num_classes:
                limits.append(Limit(begin, begin + size, best, per_class=False))
            else:  # all of them
                limits.append(Limit(begin, begin + size, size * self.num_classes, per_class=False))
            begin += size
        return super().choice._replace(limits=tuple(limits))

    def hybrid_forward(self, F, logits, offsets, anchors):
        return self.choose(F, logits, offsets, anchors, self.selection)

    def choose(self, F, logits, offsets, anchors, chosen: Selection):
        """Return boxes, scores and classes of a selection."""
        found, begin, number = [], 0, 0
        boxes, scores = self._decoded(F, offsets, anchors), self._scores(F, logits)
        for level, size in enumerate(self._level_sizes):
            part, count = {"axis": 1, "begin": begin, "end": begin + size}, self._count(size, chosen)
            of_level = F.slice_axis(boxes, **part), F.slice_axis(scores, **part)
            found.append(self._pairs(F, *of_level, count, level if self._apart else 0))
            begin, number = begin + size, number + count
        return best_rows(F, F.concat(*found, dim=1), number, chosen)

    def _count(self, size: int, chosen: Selection) -> int:
        """Pairs of a map of `size` anchors that are looked at."""
        pairs, wanted = size * self.num_classes, chosen.per_level
        return pairs if wanted is None else min(wanted, pairs)

    def _pairs(self, F, boxes, scores, number: int, first_class: int):
        """Rows (N, number, 6) of a map: class, score and corners of its best pairs of a box and a class."""
        classes = self.num_classes
        # As numbers of pairs, of which there may be more than float32 can count.
        dtype = "float32" if max(self._level_sizes) * classes <= EXACT else "float64"
        numbers = F.contrib.arange_like(scores, axis=2, start=first_class)  # of the classes, in the type of the scores
        scores = F.reshape(scores, shape=(0, -1))
        order = F.topk(scores, axis=1, k=number, ret_typ="indices", dtype=dtype)
        best = F.topk(scores, axis=1, k=number, ret_typ="value")
        anchor = F.floor(order / classes)
        labels = F.take(numbers, order - anchor * classes)
        corners = rows_at(F, boxes, F.cast(anchor, "float32"))
        return F.concat(F.expand_dims(labels, axis=2), F.expand_dims(best, axis=2), corners, dim=2)


def best_rows(F, rows, number: int, chosen: Selection, topk: int = -1):
    """Of rows (N, number, 6), class, score and corners, the best without overlaps within a class, by falling score.

    Returns boxes (N, K, 4), scores (N, K) and classes (N, K), -1 where there is none. Of equal scores the first row
    stays first. `topk` : of how many rows overlaps are looked for; -1: of all.
    """
    limits = {"overlap_thresh": chosen.overlap, "valid_thresh": chosen.score_above, "topk": topk}
    rows = F.contrib.box_nms(rows, id_index=0, score_index=1, coord_start=2, **limits)
    # What is left stands first.
    rows = F.slice_axis(rows, axis=1, begin=0, end=min(chosen.per_image, number))
    classes, scores = (F.reshape(F.slice_axis(rows, axis=2, begin=i, end=i + 1), (0, -1)) for i in (0, 1))
    return F.slice_axis(rows, axis=2, begin=2, end=6), scores, classes


def rows_at(F, array, places):
    """Rows (N, K, V) of an array (N, M, V) at places (N, K), float32."""
    image = F.cast(F.contrib.arange_like(places, axis=0), "float32")
    image = F.broadcast_like(F.expand_dims(image, axis=1), places)
    return F.gather_nd(array, F.stack(image, places, axis=0))


def decode(F, offsets, anchors, variances: Variances = VARIANCES, largest_growth: Optional[float] = None):
    """Return corners (N, P, 4) from offsets (N, P, 4) and anchors (1, P, 4) or (N, P, 4), in the anchors' unit.

    Args:
        F: `mx.nd` or `mx.sym`.
        offsets: Of the center in shares of the anchor's sides, and of the logarithms of the sides, both in units of
            the variances.
        anchors: Center, width and height.
        variances: These units.
        largest_growth: Of a side of an anchor; None: any.
    """
    assert variances[0] == variances[1] and variances[2] == variances[3], "both directions have one unit"

    def part(array, begin):
        return F.slice_axis(array, axis=2, begin=begin, end=begin + 2)

    sides = part(offsets, 2) * variances[2]
    if largest_growth is not None:
        sides = F.minimum(sides, math.log(largest_growth))
    half = F.broadcast_mul(F.exp(sides), part(anchors, 2)) / 2
    centers = F.broadcast_add(F.broadcast_mul(part(offsets, 0) * variances[0], part(anchors, 2)), part(anchors, 0))
    return F.concat(centers - half, centers + half, dim=2)


def encode(boxes, anchors, variances: Variances = VARIANCES) -> mx.nd.NDArray:
    """Return the offsets that decoding turns into the boxes: the inverse of `decode` for targets of a loss.

    Args:
        boxes: Corners (P, 4) or (N, P, 4) in shares of the image, one box for each anchor.
        anchors: (P, 4), center, width and height.
        variances: Units of the offsets, see `decode`.
    """

    def half(array, begin):
        return mx.nd.slice_axis(array, axis=-1, begin=begin, end=begin + 2)

    first, last, own = half(boxes, 0), half(boxes, 2), half(anchors, 2)
    centers = mx.nd.broadcast_div(mx.nd.broadcast_sub((last + first) / 2, half(anchors, 0)), own)
    offsets = mx.nd.concat(centers, mx.nd.log(mx.nd.broadcast_div(last - first, own)), dim=-1)
    return mx.nd.broadcast_div(offsets, mx.nd.array(variances, ctx=boxes.context, dtype=offsets.dtype))
