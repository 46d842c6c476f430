"""Whether detections are those of a detector: held against all its boxes and scores, computed exactly.

Detections of two runtimes cannot be compared row by row: scores that are equal but for rounding change places, and of
two boxes that overlap the other one is left. So each of them is proved: it is a box of the detector with its score,
no better one of its class overlaps it, and whatever is missing is overlapped by a better one. All within the rounding.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Sequence

import numpy as np

from ..runtime.detections import Choice, choose, overlaps
from .compare import DIFFERS, ROUNDINGS, TOLERANCE, Judgement, cpu_function, refusal
from .graph.inference import StaticGraph, inference_graph, network_graph

__all__ = ["DetectionQuestion", "detections_agreement", "of_float"]

UNIT = "in scores, or in the length of a side of the image"


class DetectionQuestion(NamedTuple):
    """Images that files get, and all boxes that the detector has for them.

    kind : what they show.
    images : (N, in_channels, H, W) as the files take them.
    boxes, scores : (N, P, 4) in pixels of the input and (N, P, classes), in float64 on the CPU.
    rounding : the largest difference of the graph in float32 from these, as `difference` measures it.
    choice : how the files choose detections; None if they give all boxes.
    """

    kind: str
    images: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    rounding: float
    choice: Optional[Choice]

    @classmethod
    def of(
        cls, net, choice: Optional[Choice], kind: str, normalized: np.ndarray, given: Optional[np.ndarray] = None
    ) -> DetectionQuestion:
        """Ask a detector. `given` : the images as the files take them, if not normalized.

        Raises ValueError if its answers are not finite.
        """
        graph = every_graph(net)
        run = cpu_function(graph)
        own, exact = (run(normalized, dtype) for dtype in ("float32", "float64"))
        if not all(np.isfinite(array).all() for array in (*own, *exact)):
            raise ValueError(
                f"the network's own boxes or scores are not finite on {kind}: there is nothing to compare files with"
            )
        images = normalized if given is None else given
        boxes, scores = exact
        asked = cls(kind, images, boxes, scores, 0.0, choice)
        return asked._replace(rounding=asked.difference(*own))

    @property
    def side(self) -> int:
        """Of the images, in pixels."""
        return self.images.shape[-1]

    @property
    def allowed(self) -> float:
        """The difference that is allowed."""
        return max(TOLERANCE, ROUNDINGS * self.rounding)

    def judged(self, found: Sequence[np.ndarray], what: str = DIFFERS) -> Judgement:
        """Judge boxes, scores and, unless all are given, classes that files give for these images."""
        shapes = [array.shape for array in found]
        if self.choice is None:
            wanted = [self.boxes.shape, self.scores.shape]
        else:
            number = min(self.choice.per_image, self.scores[0].size)
            wanted = [(len(self.images), number, *end) for end in ((4,), (), ())]
        if shapes != wanted:
            return Judgement(np.nan, f"{what}: it gives {shapes} in place of {wanted}")
        if not all(np.isfinite(array).all() for array in found):
            return Judgement(np.nan, f"{what} by nan: its boxes or scores are not finite on {self.kind}")
        if self.choice is None:
            difference = self.difference(*found)
            return Judgement(difference, refusal(difference, what, ROUNDINGS * self.rounding, UNIT))
        each = [self._image(self.choice, place, *(array[place] for array in found)) for place in range(len(found[0]))]
        worst = Judgement.worst(each)
        return worst if worst.refused is None else worst._replace(refused=f"{what} on {self.kind}: {worst.refused}")

    def difference(self, boxes: np.ndarray, scores: np.ndarray) -> float:
        """Return the largest difference, of scores or of corners.

        Of boxes that are larger than the image it is relative to them.
        """
        sides = np.maximum((self.boxes[..., 2:] - self.boxes[..., :2]).max(axis=-1), self.side)
        corners = np.abs(boxes - self.boxes).max(axis=-1) / sides
        return float(max(corners.max(), np.abs(scores - self.scores).max()))

    def _image(self, choice: Choice, place: int, boxes, scores, classes) -> Judgement:
        """Prove the detections of one image, (K, 4), (K,) and (K,)."""
        number, all_scores = int((scores > 0).sum()), self.scores[place]
        rest = np.concatenate([boxes[number:].ravel(), scores[number:], classes[number:]])
        if (np.diff(scores) > 0).any() or (rest != -1).any():
            return Judgement(np.nan, "scores do not fall, or there is something behind the last detection")
        labels = classes[:number].astype(int)
        if (labels != classes[:number]).any() or (labels < 0).any() or (labels >= all_scores.shape[1]).any():
            return Judgement(np.nan, "there are classes that the network does not have")
        kept, allowed = boxes[:number].astype(np.float64), self.allowed
        difference = self._nearest(place, kept, scores[:number], labels)
        refused = refusal(difference, "a detection is none of the network's boxes, off", allowed, UNIT)
        if refused is not None:
            return Judgement(difference, refused)
        if number and scores[number - 1] < choice.score_above - allowed:
            return Judgement(difference, f"a detection has a score of {scores[number - 1]:.3g}")
        for label in range(all_scores.shape[1]):
            own = labels == label
            refused = self._class(choice, place, label, kept[own], scores[:number][own], scores, number)
            if refused is not None:
                return Judgement(difference, refused)
        return Judgement(difference, None)

    def _nearest(self, place: int, boxes, scores, labels) -> float:
        """How far the detections are from those boxes and scores that they are nearest to, at most."""
        far, all_boxes = 0.0, self.boxes[place]
        sides = np.maximum((all_boxes[:, 2:] - all_boxes[:, :2]).max(axis=1), self.side)
        for box, score, label in zip(boxes, scores, labels):
            corners = np.abs(all_boxes - box).max(axis=1) / sides
            far = max(far, np.maximum(corners, np.abs(self.scores[place][:, label] - score)).min())
        return float(far)

    def _class(self, choice: Choice, place: int, label: int, kept, scores, all_kept, number: int) -> Optional[str]:
        """Whether the detections of a class are those that suppression leaves; the sentence if they are not."""
        allowed = self.allowed
        rounding = _rounding_of_overlaps(kept, kept, allowed * self.side)
        among = np.triu(overlaps(kept, kept) - rounding, 1)
        if (among > choice.overlap).any():
            return f"two detections of class {label} overlap by {among.max():.3f}"
        exact = self.scores[place]
        missing = choice.compared(exact, 2 * allowed)[:, label]
        if number == len(all_kept):  # the image has no room for lower ones
            missing &= exact[:, label] > all_kept[-1] + 2 * allowed
        boxes, own = self.boxes[place][missing], exact[missing, label]
        rounding = _rounding_of_overlaps(boxes, kept, allowed * self.side)
        covered = overlaps(boxes, kept) + rounding > choice.overlap
        covered &= scores >= own[:, None] - 2 * allowed
        # A detection covers itself, unless it has no area.
        itself = np.abs(boxes[:, None] - kept).max(axis=-1) <= 2 * allowed * self.side
        lost = own[~(covered | itself).any(axis=1)]
        return (
            f"{len(lost)} boxes of class {label} are missing, with scores up to {lost.max():.3g}" if len(lost) else None
        )


def _rounding_of_overlaps(boxes: np.ndarray, others: np.ndarray, length: float) -> np.ndarray:
    """How far intersection over union may be off if corners are off by a length, (M, N)."""
    shorter = [np.maximum((each[:, 2:] - each[:, :2]).min(axis=1), 1e-9) for each in (boxes, others)]
    return np.minimum(8 * length / np.minimum(shorter[0][:, None], shorter[1]), 1)


def every_graph(net) -> StaticGraph:
    """Return the graph of all boxes and scores of a detector, and its arrays on the CPU."""
    return network_graph(net)._replace(symbol=inference_graph(net.all_boxes))


def of_float(net, images: np.ndarray, choice: Choice) -> Sequence[np.ndarray]:
    """Return the detections of a detector in float32 on the CPU."""
    boxes, scores = cpu_function(every_graph(net))(images, "float32")
    return choose(boxes, scores, choice)


def detections_agreement(found: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> Dict[str, Any]:
    """Return the share of detections that are found again, each counted by its score.

    Found again is a detection if there is one of its class that overlaps it by at least a half.
    """
    again = total = 0.0
    for boxes, scores, classes, *theirs in zip(*exact, *found):
        for box, score, label in zip(boxes, scores, classes):
            if score <= 0:
                break
            total += score
            own = theirs[0][(theirs[2] == label) & (theirs[1] > 0)]
            again += score * bool((overlaps(box, own) >= 0.5).any())
    return {"agreement": again / total if total else 1.0}
