"""Exported detectors in ONNX Runtime: images in, detections in pixels of these images out."""

from __future__ import annotations

import itertools
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from .decode import Picture, is_one, numbered, pixels_of
from .detections import choose, on_original
from .facts import Facts
from .pixels import luminance, normalise, resized
from .preprocessing import Preprocessing

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


class Detector:
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
        self.facts, self._run, self._where = facts, run, where
        assert facts.choice is not None, "a detector says how it chooses"
        self._choice = facts.choice

    @property
    def names(self) -> Optional[Tuple[str, ...]]:
        """Of the classes, or None."""
        return self.facts.names

    @property
    def num_classes(self) -> int:
        """Without the background."""
        return self.facts.num_classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to an image; it is not cropped, but resized to `image_size` in both directions."""
        return self.facts.preprocessing

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
        if batch < 1:
            raise ValueError(f"the number of images in a batch is {batch}; it must be at least 1")
        found: List[List[Detection]] = []
        for inputs, sizes in self._batches(images, batch):
            found += self.of_inputs(inputs, sizes, score_above)
        return found[0] if is_one(images) else found

    def input(self, image: Picture, where: str = "the image") -> Tuple[np.ndarray, Tuple[int, int]]:
        """Return what the detector is shown of an image, (channels, H, W) float32, and its own height and width."""
        mean, std, order, interpolation, _, size, _ = self.preprocessing
        assert interpolation is not None and size is not None, "checked when it was read"
        pixels = pixels_of(image, where)
        shown = resized(pixels, size, interpolation)
        if len(mean) == 1:
            shown = luminance(shown)
        step = -1 if order == "bgr" else 1
        height, width = pixels.shape[:2]
        return normalise(shown[..., ::step], mean[::step], std[::step]), (height, width)

    def arrays(self, inputs: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (n, K, 4) in pixels of inputs (n, channels, H, W), scores (n, K) and classes (n, K).

        -1 stands where there is no detection.

        Raises:
            ValueError: The inputs have another shape, the detector cannot be run, or its answer is no number.
        """
        inputs = np.ascontiguousarray(inputs, np.float32)
        size, channels = self.preprocessing.image_size, len(self.preprocessing.mean)
        if inputs.ndim != 4 or inputs.shape[1:] != (channels, size, size) or not len(inputs):
            raise ValueError(f"{self._where} takes an array (n, {channels}, {size}, {size}), not {inputs.shape}")
        try:
            found = self._run(inputs)
        except Exception as error:  # of ONNX Runtime, which has no common class
            raise ValueError(f"{self._where}: ONNX Runtime cannot run this detector; its file is damaged") from error
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

    def _batches(self, images, batch: int) -> Iterator[Tuple[np.ndarray, List[Tuple[int, int]]]]:
        shown = (self.input(*one) for one in numbered(images))
        while True:
            part = list(itertools.islice(shown, batch))
            if not part:
                return
            inputs, sizes = zip(*part)
            yield np.stack(inputs), list(sizes)


def _fit(found: Sequence[np.ndarray], images: int, classes: int) -> bool:
    """Whether arrays are boxes, scores and classes of images, or all boxes with a score for every class."""
    if len(found) == 2:
        boxes, scores = found
        return scores.ndim == 3 and boxes.shape == (images, scores.shape[1], 4) and scores.shape[2] == classes
    boxes, scores, labels = found
    return scores.ndim == 2 and boxes.shape == (images, scores.shape[1], 4) and labels.shape == scores.shape
