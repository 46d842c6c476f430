"""Detectors that look at regions which they propose themselves: their graph with its parts named, and its proof.

Rounding swaps proposals: of two that overlap the other one is left, and then other regions are looked at. So files are
asked for their proposals, too. These are proved among the boxes of all anchors, as detections are; what the files make
of them is compared with what the detector in float64 makes of the same regions.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..detection.faster_rcnn import FasterRCNN
from ..detection.rcnn_parts import canonical_areas
from ..runtime.detections import Choice
from .compare import DIFFERS, Judgement, in_type, operator
from .compare_detections import DetectionQuestion
from .graph.inference import StaticGraph, cpu_arrays, inference_graph

__all__ = ["PROPOSALS", "PROPOSED", "Stages", "TwoStageQuestion", "two_stage_graph"]

# The name within graphs and files of what is proposed, (N, R, 6): number of the map, score and corners.
PROPOSED = "proposed"
# Names of regions, their scores and the numbers of their maps.
PROPOSALS = ("proposals", "proposal_scores", "proposal_maps")
_MOST_IMAGES = 2  # of a kind: hundreds of regions of each go through a part of the network in float64


class Stages(NamedTuple):
    """What a file of a detector of two stages needs to know beside its graph.

    The graph of such a `Stages` gives, in this order: all boxes (N, R classes, 4) in pixels, scores (N, R, classes),
    or (N, R classes, classes) if nothing is chosen; proposals (N, R, 4), their scores, and the numbers of their maps,
    (N, R) both; boxes (N, P, 4) and scores (N, P, 1) of all anchors; what was pooled of the regions, their corners
    (N R, 4) in pixels, and the maps.

    proposals : how proposals are chosen, by limits that are maps, within which alone overlaps count.
    classes : of the detector.
    areas : of a region, from which on it reads the next map.
    strides : of the maps that regions read.
    side, sample_ratio, aligned : of `ROIAlign`.
    """

    proposals: Choice
    classes: int
    areas: Tuple[float, ...]
    strides: Tuple[int, ...]
    side: int
    sample_ratio: int
    aligned: bool

    @classmethod
    def of(cls, net: FasterRCNN) -> Stages:
        """Return those of a detector."""
        form, chosen = net.form, net.predictor.proposals.choice
        maps = len(form.taps)
        return cls(
            chosen._replace(per_image=min(chosen.per_image, len(net.anchors))),
            net.num_classes,
            canonical_areas(maps),
            form.strides[:maps],
            form.regions,
            form.sample_ratio,
            form.aligned,
        )


def two_stage_graph(net: FasterRCNN, all_boxes: bool, in_parts: bool) -> StaticGraph:
    """Return the graph of a detector with its proposals under the name of `PROPOSED`.

    Parameters
    ----------
    all_boxes : whether it gives all boxes and scores in place of detections.
    in_parts : whether it gives what `Stages` says.
    """
    stages = net.predictor

    def run(x):
        F = mx.sym
        logits, offsets, *maps = stages.proposing(x)
        proposals = stages.proposals(logits, offsets)
        # One array that the others are cut from, so that a file can be asked for it.
        values = (F.expand_dims(array, axis=2) for array in proposals[:0:-1])
        rows = F.concat(*values, proposals[0], dim=2, name=PROPOSED)
        regions, found = (F.slice_axis(rows, axis=2, begin=begin, end=end) for begin, end in ((2, 6), (1, 2)))
        found = F.reshape(found, shape=(0, -1))
        image, corners = stages.regions.rows(F, regions)
        pooled = stages.regions.pooled(F, image, corners, maps)
        answers = (*stages.regions.answers(pooled, regions), regions, found)
        if not in_parts:
            return (net.decode if all_boxes else net.choose)(*answers)
        if all_boxes:
            boxes, scores = net.decode(*answers)
        else:
            boxes, scores = net.detections.pairs(F, *answers)
            boxes = boxes * net.image_size
        return [boxes, scores, *proposals, *stages.proposals.every(logits, offsets), pooled, corners, *maps]

    return StaticGraph(inference_graph(run), cpu_arrays(net))


class _Exact:
    """The two stages of a detector on the CPU, in float32 or in float64."""

    def __init__(self, net: FasterRCNN):
        stages, names = net.predictor, [f"map{number}" for number in range(len(net.form.taps))]

        def propose(x):
            logits, offsets, *maps = stages.proposing(x)
            return [*stages.proposals.every(logits, offsets), *maps]

        regions, found = (mx.sym.var(name) for name in PROPOSALS[:2])
        maps = [mx.sym.var(name) for name in names]
        second = inference_graph(
            lambda _: net.decode(*stages.regions(regions, *maps), regions, found)  # nothing of the image itself
        )
        self._arrays, self._names = cpu_arrays(net), names
        self._graphs = [(symbol, operator(symbol)) for symbol in (inference_graph(propose), second)]

    def propose(self, images: np.ndarray, dtype: str) -> List[np.ndarray]:
        """Return boxes (n, P, 4), in shares of the image, and scores (n, P, 1) of all anchors, and the maps."""
        return self._run(0, {"data": images}, dtype)

    def regard(self, proposals: Sequence[np.ndarray], maps: Sequence[np.ndarray], dtype: str) -> List[np.ndarray]:
        """Return boxes (n, R classes, 4) in pixels, and scores (n, R classes, classes), of regions and their scores."""
        return self._run(1, dict(zip((*PROPOSALS[:2], *self._names), (*proposals, *maps))), dtype)

    def _run(self, stage: int, given: Any, dtype: str) -> List[np.ndarray]:
        symbol, run = self._graphs[stage]
        arrays = in_type(self._arrays, dtype)
        arrays.update((name, mx.nd.array(array, dtype=dtype)) for name, array in given.items())
        return [array.asnumpy() for array in run(*(arrays[name] for name in symbol.list_inputs()))]


class TwoStageQuestion(NamedTuple):
    """Images that files get, what a detector proposes for them, and the detector itself.

    kind, images : as of `DetectionQuestion`.
    proposals : what is asked of the proposals, their classes the numbers of maps.
    maps : that regions read, in float32 and in float64.
    exact : the detector.
    choice : how the files choose detections; None if they give all boxes.
    """

    kind: str
    images: np.ndarray
    proposals: DetectionQuestion
    maps: Tuple[Sequence[np.ndarray], Sequence[np.ndarray]]
    exact: _Exact
    choice: Optional[Choice]

    @classmethod
    def of(
        cls, net: FasterRCNN, choice: Optional[Choice], kind: str, normalized: np.ndarray, given=None
    ) -> TwoStageQuestion:
        """Ask a detector. `given` : the images as the files take them, if not normalized.

        Raises ValueError if its answers are not finite.
        """
        exact, stages, normalized = _Exact(net), Stages.of(net), normalized[:_MOST_IMAGES]
        (*own, own_maps), (*all_of_it, maps) = (
            (boxes * net.image_size, scores, rest)
            for boxes, scores, *rest in (exact.propose(normalized, dtype) for dtype in ("float32", "float64"))
        )
        if not all(np.isfinite(array).all() for array in (*own, *all_of_it)):
            raise ValueError(
                f"the network's own proposals are not finite on {kind}: there is nothing to compare files with"
            )
        images = normalized if given is None else given[:_MOST_IMAGES]
        boxes, scores = (_by_map(stages.proposals, *pair) for pair in (own, all_of_it))
        asked = DetectionQuestion(kind, images, all_of_it[0], scores[1], 0.0, stages.proposals)
        asked = asked._replace(rounding=asked.difference(own[0], boxes[1]))
        return cls(kind, images, asked, (own_maps, maps), exact, choice)

    def judged(self, found: Sequence[np.ndarray], what: str = DIFFERS) -> Judgement:
        """Judge what files give for these images, and behind it what they propose, (n, R, 6)."""
        *answer, rows = found
        asked, maps, scores, regions = self.proposals, rows[..., 0], rows[..., 1], rows[..., 2:]
        boxes = np.where(scores[..., None] > 0, regions * asked.side, regions)
        proposed = asked.judged([boxes, scores, maps], f"{what} in what it proposes")
        if proposed.refused is not None:
            return proposed
        own, exact = (
            self.exact.regard((regions, scores), maps, dtype) for maps, dtype in zip(self.maps, ("float32", "float64"))
        )
        if not all(np.isfinite(array).all() for array in (*own, *exact)):
            return Judgement(np.nan, f"the network's own boxes or scores are not finite on {self.kind}")
        second = DetectionQuestion(self.kind, self.images, exact[0], exact[1], 0.0, self.choice)
        second = second._replace(rounding=second.difference(*own))
        return Judgement.worst([proposed, second.judged(answer, what)])


def _by_map(choice: Choice, boxes: np.ndarray, scores: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Boxes, and scores (n, P, maps) in place of (n, P, 1): 0 but for the map that an anchor is of."""
    apart = np.zeros((*scores.shape[:2], len(choice.limits)), scores.dtype)
    for number, limit in enumerate(choice.limits):
        apart[:, limit.begin : limit.end, number] = scores[:, limit.begin : limit.end, 0]
    return boxes, apart
