"""From all boxes of a detector to its detections, in NumPy: which are chosen, and where they are on the original."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

__all__ = ["Choice", "Limit", "choose", "endless", "on_original", "overlaps"]


_TOGETHER = 256


class Limit(NamedTuple):
    """Of which boxes overlaps are looked for: the best of some, by their scores.

    Attributes:
        begin, end: The boxes, by their places.
        best: How many.
        per_class: Whether so many of every class, or so many pairs of a box and a class.
    """

    begin: int
    end: int
    best: int
    per_class: bool = True


class Choice(NamedTuple):
    """How detections are chosen among boxes with scores.

    Attributes:
        score_above: Boxes of lower scores are dropped.
        overlap: Of two boxes of a class that overlap more (intersection over union), the one of lower score is dropped.
        per_image: Detections of an image, by score.
        limits: Of which boxes overlaps are looked for; none: of all.
    """

    score_above: float
    overlap: float
    per_image: int
    limits: Tuple[Limit, ...] = ()

    def as_table(self) -> Dict[str, Any]:
        """Return it as JSON takes it."""
        return {**self._asdict(), "limits": [limit._asdict() for limit in self.limits]}

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> Choice:
        """Return what `as_table` gave."""
        return cls(**{**table, "limits": tuple(Limit(**limit) for limit in table["limits"])})

    def compared(self, scores: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Return of which scores (P, classes) overlaps are looked for, and are also if they were lower by `margin`."""
        found = scores > self.score_above + margin
        for limit in self.limits:
            part = scores[limit.begin : limit.end]
            rows = part if limit.per_class else part.reshape(-1, 1)
            if limit.best < len(rows):
                # Where the next one is as near, either could be among the best.
                following = -np.partition(-rows, limit.best, axis=0)[limit.best]
                found[limit.begin : limit.end] &= part > following + margin if margin else _best(rows, limit, part)
        return found


def _best(rows: np.ndarray, limit: Limit, part: np.ndarray) -> np.ndarray:
    order = np.argsort(-rows, axis=0, kind="stable")[: limit.best]
    found = np.zeros(rows.shape, bool)
    np.put_along_axis(found, order, True, axis=0)
    return found.reshape(part.shape)


# Boxes of a detector that has diverged are endless, and overlap by what is no number: no limit is below that.
endless = np.errstate(over="ignore", invalid="ignore")


@endless
def common_areas(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the areas that a box (4,), or each of several (M, 4), shares with boxes (N, 4): (N,) or (M, N)."""
    low = np.maximum(box[..., None, :2], boxes[:, :2])
    high = np.minimum(box[..., None, 2:], boxes[:, 2:])
    return np.clip(high - low, 0, None).prod(axis=-1)


@endless
def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return intersection over union of a box (4,), or of each of several (M, 4), with boxes (N, 4): (N,) or (M, N)."""
    common = common_areas(box, boxes)
    areas = [(each[..., 2:] - each[..., :2]).prod(axis=-1) for each in (box, boxes)]
    together = areas[0][..., None] + areas[1] - common
    return np.divide(common, together, out=np.zeros_like(common), where=together > 0)


def choose(boxes: np.ndarray, scores: np.ndarray, choice: Choice) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the detections of images, as a detector gives them.

    Args:
        boxes: (N, P, 4), x and y of two corners.
        scores: (N, P, classes).
        choice: How they are chosen.

    Returns:
        Boxes (N, K, 4), scores (N, K), which fall, and classes (N, K) from 0, all float32; -1 where there is no
        detection. K is `choice.per_image`, or all pairs of a box and a class if there are fewer.
    """
    number = min(choice.per_image, scores.shape[1] * scores.shape[2])
    found = np.full((len(boxes), number, 6), -1, np.float32)
    for place, each in enumerate(boxes):
        rows = _of_image(each, scores[place], choice)[:number]
        found[place, : len(rows)] = rows
    return found[..., 2:], found[..., 0], found[..., 1]


def _of_image(boxes: np.ndarray, scores: np.ndarray, choice: Choice) -> np.ndarray:
    """Rows of score, class and box, by falling score."""
    compared, rows = choice.compared(scores), [np.empty((0, 6))]
    for label in np.flatnonzero(compared.any(axis=0)):
        places = np.flatnonzero(compared[:, label])
        places = places[np.argsort(-scores[places, label], kind="stable")]
        kept = places[_without_overlaps(boxes[places], choice.overlap, choice.per_image)]
        rows.append(np.column_stack([scores[kept, label], np.full(len(kept), label), boxes[kept]]))
    together = np.concatenate(rows)
    return together[np.argsort(-together[:, 0], kind="stable")]


def _without_overlaps(boxes: np.ndarray, overlap: float, most: int) -> List[int]:
    """The places of the first `most` boxes that do not overlap one of these before them, best first."""
    kept: List[int] = []
    # Mostly the best few hundred are enough.
    for begin in range(0, len(boxes), _TOGETHER):
        left = np.arange(begin, min(begin + _TOGETHER, len(boxes)))
        left = left[(overlaps(boxes[kept], boxes[left]) <= overlap).all(axis=0)]
        while len(left) and len(kept) < most:
            kept.append(left[0])
            left = left[1:][overlaps(boxes[left[0]], boxes[left[1:]]) <= overlap]
        if len(kept) == most:
            break
    return kept


def on_original(boxes: np.ndarray, scores: np.ndarray, sizes: Sequence[Any], image_size: int) -> np.ndarray:
    """Return boxes (N, K, 4) in pixels of the input as pixels of the original images, cut to these.

    Args:
        boxes: With -1 where there is no detection.
        scores: (N, K).
        sizes: Height and width of the originals, (N, 2), or (2,) for all of them.
        image_size: Side of the input.
    """
    whole = np.broadcast_to(np.asarray(sizes, np.float32), (len(boxes), 2))
    ends = np.tile(whole[:, None, ::-1], (1, 1, 2))
    inside = np.clip(boxes * (ends / np.float32(image_size)), 0, ends)
    return np.where(scores[..., None] > 0, inside, boxes)
