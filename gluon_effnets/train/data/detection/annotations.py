"""The annotations of many images: as a source has them, and checked against the images themselves."""

from __future__ import annotations

import math
from typing import Any, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ....detection.truth import Truth
from ....files.text import shortened
from .bad_boxes import BadBoxes

__all__ = ["MOST_BOXES", "Annotation", "Annotations", "check_annotations"]

MOST_BOXES = 10_000  # of an image
_CUT = 0.5  # pixels


class Annotation(NamedTuple):
    """What a source says of one image, before it is checked.

    Attributes:
        image: Its name, unique in the source.
        where: How messages name the annotation.
        size: Height and width that the source says, or None.
        boxes: M times four corners in pixels, as in `Truth`; NaN where there is no number.
        classes: M numbers, from 0; -1 for a class that is not known.
        kinds: M values: what the source calls these classes.
        difficult, areas: M values, as in `Truth`.
    """

    image: str
    where: str
    size: Optional[Tuple[int, int]]
    boxes: Sequence[Sequence[float]]
    classes: Sequence[int]
    kinds: Sequence[Any]
    difficult: Sequence[bool]
    areas: Optional[Sequence[float]] = None


class Annotations(NamedTuple):
    """Checked annotations of N images with M boxes in all.

    Attributes:
        images: N names.
        sizes: (N, 2), height and width of the images as they are shown, in pixels.
        firsts: (N + 1,), where the boxes of an image begin in the next four.
        boxes: (M, 4), corners in pixels, inside of the image and not empty.
        classes: (M,), from 0.
        difficult: (M,), whether a box counts for nothing.
        areas: (M,), or None.
    """

    images: List[str]
    sizes: np.ndarray
    firsts: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray
    areas: Optional[np.ndarray] = None

    @property
    def labels(self) -> List[np.ndarray]:
        """Of every image the classes of its boxes."""
        return [self.classes[first:end] for first, end in zip(self.firsts, self.firsts[1:])]

    def truth(self, position: int) -> Truth:
        """Everything that is known of one image."""
        part = slice(int(self.firsts[position]), int(self.firsts[position + 1]))
        height, width = self.sizes[position].tolist()
        areas = None if self.areas is None else self.areas[part]
        return Truth(
            self.images[position], (height, width), self.boxes[part], self.classes[part], self.difficult[part], areas
        )

    @classmethod
    def joined(cls, parts: Sequence[Annotations]) -> Annotations:
        """Several of them behind one another, each with areas or none."""
        firsts = [0]
        for part in parts:
            firsts += (part.firsts[1:] + firsts[-1]).tolist()
        areas = [part.areas for part in parts if part.areas is not None]
        return cls(
            [image for part in parts for image in part.images],
            np.concatenate([part.sizes for part in parts]),
            np.array(firsts, np.int64),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.difficult for part in parts]),
            np.concatenate(areas) if areas else None,
        )


def check_annotations(
    annotations: Iterable[Annotation], sizes: np.ndarray, bad: BadBoxes
) -> Tuple[Annotations, np.ndarray]:
    """Hold annotations against the images, and leave out what cannot be meant so.

    Boxes that stand out of their image are cut to it. An image without boxes stays: all of it is background.

    Args:
        annotations: Of N images.
        sizes: (N, 2), height and width of the images as they are shown; 0 where they cannot be read.
        bad: Decides about bad boxes, and counts them.

    Returns:
        The annotations of the images that are left, and the places of these among the N.

    Raises:
        ValueError: For a bad box, if `bad` raises.
    """
    kept: List[int] = []
    fitting: List[Annotation] = []
    for position, (annotation, size) in enumerate(zip(annotations, sizes.tolist())):
        said, found = annotation.size, (size[0], size[1])
        if said and all(found) and said != found:
            reason = f"says {said[1]} x {said[0]} pixels, but the image is shown with {found[1]} x {found[0]}"
            bad.leave_out_image(annotation.where, reason)
            continue
        if not all(found):
            found = said or _least_size(annotation.boxes)
        fitting.append(annotation._replace(size=found))
        kept.append(position)
    return _inside(fitting, bad), np.array(kept, np.int64)


def _inside(annotations: Sequence[Annotation], bad: BadBoxes) -> Annotations:
    """All good boxes, cut to their images."""

    def all_of(name: str, kind: Any) -> np.ndarray:
        return np.array([value for annotation in annotations for value in getattr(annotation, name)], kind)

    sizes = np.array([annotation.size for annotation in annotations], np.int64).reshape(-1, 2)
    counts = np.array([len(annotation.boxes) for annotation in annotations], np.int64)
    image = np.repeat(np.arange(len(counts)), counts)
    given = all_of("boxes", np.float64).reshape(-1, 4)
    classes = all_of("classes", np.int64)
    with np.errstate(invalid="ignore"):
        boxes = np.clip(given, 0, sizes[image][:, [1, 0, 1, 0]])
        good = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
        good &= np.isfinite(given).all(axis=1) & (classes >= 0)
        bad.num_cut += int((np.abs(boxes - given)[good] > _CUT).any(axis=1).sum())
    firsts = np.cumsum([0, *counts])
    for position in np.unique(image[~good]):
        places = np.flatnonzero(~good[firsts[position] : firsts[position + 1]]).tolist()
        faults = [(place + 1, _fault(annotations[position], place)) for place in places]
        bad.leave_out(annotations[position].where, faults)
    with_areas = all(annotation.areas is not None for annotation in annotations) and len(annotations)
    return Annotations(
        [annotation.image for annotation in annotations],
        sizes,
        np.cumsum([0, *np.bincount(image[good], minlength=len(counts))]),
        boxes[good],
        classes[good],
        all_of("difficult", bool)[good],
        all_of("areas", np.float64)[good] if with_areas else None,
    )


def _fault(annotation: Annotation, place: int) -> str:
    """What is wrong with a box, as the rest of a sentence."""
    assert annotation.size
    box, (height, width) = annotation.boxes[place], annotation.size
    if annotation.classes[place] < 0:
        return f"is of the class {shortened(annotation.kinds[place])}, which is not known"
    corners = ", ".join(f"{value:g}" for value in box)
    if not all(map(math.isfinite, box)):
        return f"has no four finite numbers for a box ({corners})"
    if box[0] > box[2] or box[1] > box[3]:
        return f"has a box whose second corner is before the first ({corners})"
    if box[0] == box[2] or box[1] == box[3]:
        return f"has a box without area ({corners})"
    return f"has a box outside of the {width} x {height} pixels of the image ({corners})"


def _least_size(boxes: Sequence[Sequence[float]]) -> Tuple[int, int]:
    """Height and width that hold all boxes, for an image that cannot be read and whose size nobody says."""
    ends = [(box[3], box[2]) for box in boxes if all(map(math.isfinite, box))]
    height, width = (math.ceil(min(max(sides), 1 << 24)) for sides in zip(*ends)) if ends else (1, 1)
    return max(1, height), max(1, width)
