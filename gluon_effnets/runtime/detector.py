"""Exported detectors in ONNX Runtime: images in, detections in pixels of these images out."""

from __future__ import annotations

from typing import Any, Callable, Iterable, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from .decode import Picture, is_one, pixels_of
from .detections import choose, on_original
from .facts import Facts
from .of_export import OfExport
from .pixels import resized, to_input

__all__ = ["Detection", "Detector"]


class Detection(NamedTuple):
    """An object that was found on an image.

    Attributes:
        name: Of its class, or the class's number as a text.
        score: In 0..1.
        box: x and y of two corners, in pixels of the image as it is upright.
        label: The class, from 0.
    """

    name: str
    score: float
    box: Tuple[float, float, float, float]
    label: int


class Detector(OfExport[Tuple[np.ndarray, Tuple[int, int]]]):
    """An exported detector: `net(image)` gives what is found on an image, by falling score.

    It has no state, and several threads may use it at the same time.

    Attributes:
        facts: What the export says of the detector.

    Args:
        facts: As above.
        run: Images (n, channels, H, W) -> the arrays of `facts.outputs`.
        where: The file that it comes from, for error texts.
    """

    def __init__(self, facts: Facts, run: Callable[[np.ndarray], List[np.ndarray]], where):
        super().__init__(facts, run, where)
        assert facts.choice is not None, "a detector says how it chooses"
        self._choice = facts.choice

    def __call__(
        self, images: Union[Picture, Iterable[Picture]], score_above: float = 0.0, batch: int = 8
    ) -> List[Any]:
        """Return what is found on one image, or for several images a list for each.

        Args:
            images: Paths, encoded images, images of Pillow, or arrays (H, W, 3) uint8 RGB.
            score_above: Detections of lower scores are left out.
            batch: Images that go through the network together; no more are decoded at a time.

        Returns:
            `Detection`s by falling score.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: It cannot be read, or is no image.
            ValueError: An array has another shape or type, or the detector's answer is no number.

        Example:
            >>> [(found.name, found.box) for found in net("street.jpg", score_above=0.5)]
        """
        found: List[List[Detection]] = []
        for part in self._batches(images, batch):
            inputs, sizes = zip(*part)
            found += self.of_inputs(np.stack(inputs), sizes, score_above)
        return found[0] if is_one(images) else found

    def input(self, image: Picture, where: str = "the image") -> Tuple[np.ndarray, Tuple[int, int]]:
        """Return what the detector is shown of an image, (channels, H, W) float32, and its own height and width."""
        wanted, pixels = self.preprocessing, pixels_of(image, where)
        assert wanted.interpolation and wanted.image_size, "checked when it was read"
        height, width = pixels.shape[:2]
        return to_input(resized(pixels, wanted.image_size, wanted.interpolation), wanted), (height, width)

    _shown = input

    def arrays(self, inputs: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (n, K, 4) in pixels of inputs (n, channels, H, W), scores (n, K) and classes (n, K).

        -1 stands where there is no detection.

        Raises:
            ValueError: The inputs have another shape, the detector cannot be run, or its answer is no number.
        """
        found = self._answers(inputs, "its file is damaged")
        if not _fit(found, len(inputs), self.num_classes):
            raise ValueError(f"{self._where} gives {[array.shape for array in found]}, which are no detections")
        if not all(np.isfinite(array).all() for array in found):
            raise ValueError(
                f"the boxes or scores of {self._where} are not finite (nan or inf): its weights are damaged"
            )
        if len(found) == 2:
            return choose(found[0], found[1], self._choice)
        return found[0], found[1], found[2]

    def of_inputs(
        self, inputs: np.ndarray, sizes: Sequence[Tuple[int, int]], score_above: float = 0.0
    ) -> List[List[Detection]]:
        """Return what is found on inputs, as `input` makes them of images of these sizes. Raises as `arrays` does."""
        boxes, scores, classes = self.arrays(inputs)
        boxes = on_original(boxes, scores, sizes, inputs.shape[-1])
        return [
            [
                Detection(self._name(int(label)), float(score), (float(a), float(b), float(c), float(d)), int(label))
                for (a, b, c, d), score, label in zip(*rows)
                if score > max(score_above, 0.0)
            ]
            for rows in zip(boxes, scores, classes)
        ]

    def _name(self, label: int) -> str:
        return self.names[label] if self.names and 0 <= label < len(self.names) else str(label)


def _fit(found: Sequence[np.ndarray], images: int, classes: int) -> bool:
    """Whether arrays are boxes, scores and classes of images, or all boxes with a score for every class."""
    if len(found) == 2:
        boxes, scores = found
        return scores.ndim == 3 and boxes.shape == (images, scores.shape[1], 4) and scores.shape[2] == classes
    boxes, scores, labels = found
    return scores.ndim == 2 and boxes.shape == (images, scores.shape[1], 4) and labels.shape == scores.shape
