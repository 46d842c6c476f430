"""What a detector finds on images: files, arrays and open images, in their own pixels."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from PIL import Image

from ..deploy import load_routed, open_exported
from ..deploy.description import Description
from ..detection import Detector, load_detector
from ..files.schema import check_type
from ..models import Card
from ..models.card import complete_preprocessing
from ..models.params import require_finite
from ..runtime.pixels import to_input
from ..train.data.augment import resize
from .drawing import DrawnBox, class_color, draw_boxes
from .predict import OfImages, read_image, require_images
from .subject import context

__all__ = ["ImageDetections", "ImageDetector", "detect_images", "draw_detections"]

_BATCH = 8


class ImageDetections(NamedTuple):
    """What was found on one image, by falling score.

    Attributes:
        boxes: x and y of two corners in pixels of the image, the second exclusive, (K, 4) float32.
        scores: 0 to 1, (K,) float32.
        classes: (K,) int, from 0.
        size: Height and width of the image.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    size: Tuple[int, int]

    def chosen(self, score_above: float = 0.0, most: Optional[int] = None) -> ImageDetections:
        """Return the detections of higher scores alone, and at most so many."""
        rows = np.flatnonzero(self.scores > score_above)[:most]
        return ImageDetections(self.boxes[rows], self.scores[rows], self.classes[rows], self.size)

    def records(self, names: Optional[Sequence[str]] = None) -> List[Dict[str, Any]]:
        """Return a dictionary for every detection, as JSON takes it: class, name, score and box."""
        return [
            {"class": label, "name": names[label] if names else None, "score": score, "box": box}
            for label, score, box in zip(self.classes.tolist(), self.scores.tolist(), self.boxes.tolist())
        ]


class _Input(NamedTuple):
    """The pixels that a detector gets, (C, side, side), and the size of the image that they are from."""

    pixels: np.ndarray
    size: Tuple[int, int]


class ImageDetector(OfImages[_Input, ImageDetections]):
    """A detector of images: `detector(image)` -> ImageDetections, for a path, an open image of Pillow, or an array.

    Arrays hold RGB (h, w, 3) or gray (h, w), uint8. Boxes are in pixels of the image as it is given; files are turned
    as EXIF's orientation says.

    Args:
        num_classes: Without the background.
        detect: Images (n, C, side, side) and their sizes (n, 2) -> boxes, scores and classes of `Detector.detect`.
        card: With a complete preprocessing.
        where: What the detector comes from, for messages.

    Attributes:
        names: Of the classes, or None.

    Example:
        >>> detector = ImageDetector.of_weights("ssdlite320_mobilenext_x1_0", "w.params")
        >>> boxes, scores, classes, size = detector("street.jpg")
    """

    def __init__(self, detect: Callable[..., Sequence[Any]], card: Card, num_classes: int, where: Union[str, Path]):
        require_images(len(card.preprocessing.mean), card.preprocessing, where)
        super().__init__(card, where)
        self._detect, self.num_classes = detect, num_classes

    @classmethod
    def of_net(cls, net: Detector, where: Union[str, Path] = "the detector") -> ImageDetector:
        """Return what detects with an open detector.

        Raises:
            ValueError: A number in the weights is not finite.
        """
        require_finite(net, where)
        require_images(net.in_channels, net.preprocessing, where)
        ctx = next(iter(net.collect_params().values())).list_ctx()[0]

        def detect(pixels: np.ndarray, sizes: np.ndarray) -> List[np.ndarray]:
            return [array.asnumpy() for array in net.detect(mx.nd.array(pixels, ctx=ctx), sizes)]

        card = net.card._replace(preprocessing=complete_preprocessing(net)._replace(image_size=net.image_size))
        return cls(detect, card, net.num_classes, where)

    @classmethod
    def of_weights(cls, name: str, weights: Union[str, Path], **options: Any) -> ImageDetector:
        """Return what detects with a `.params` file.

        Args:
            name: A name of `list_detectors()`.
            weights: The file.
            options: Of the detector, such as `selection`.

        Raises:
            ValueError: The file holds another network, or its numbers are not finite.
            FileNotFoundError: There is no such file.
        """
        net = load_detector(weights, context(), name=name, **options)
        net.hybridize(static_alloc=True, static_shape=True)
        return cls.of_net(net, weights)

    @classmethod
    def of_export(cls, path: Union[str, Path], trust: bool = False) -> ImageDetector:
        """Return what detects with an exported detector in its own runtime.

        Args:
            path: The JSON file that `export` or `export_routed` wrote.
            trust: Whether what runs code may be loaded, as in `open_exported`.

        Raises:
            ValueError: What `open_exported` raises.
            FileNotFoundError: A file is missing.
        """
        about = Description.read(path)
        exported: Any = (load_routed if about.routes else open_exported)(path, trust=trust)
        require_images(about.in_channels, about.preprocessing, path)
        card = Card(list(about.names) if about.names else None, about.preprocessing)
        return cls(exported.detect, card, about.num_classes, path)

    def __call__(self, image: Any) -> ImageDetections:
        """The detections on one image.

        Raises:
            OSError: A file cannot be read (FileNotFoundError if it is not there) or is no image.
            ValueError: An array is no image, or a detection is no number.
        """
        return self._answers([self._input(_pixels(image))])[0]

    def _input(self, image: np.ndarray) -> _Input:
        side = self.settings.image_size
        shown = resize(image, side, side, self.settings.eval_interpolation)
        return _Input(to_input(shown, self.settings), (image.shape[0], image.shape[1]))

    def _answers(self, inputs: Sequence[_Input]) -> List[ImageDetections]:
        sizes = [each.size for each in inputs]
        found = self._detect(np.stack([each.pixels for each in inputs]), np.array(sizes, np.float32))
        answers = []
        for size, boxes, scores, classes in zip(sizes, *map(np.asarray, found)):
            there = classes >= 0
            answer = ImageDetections(boxes[there], scores[there], classes[there].astype(int), size)
            if not (np.isfinite(answer.boxes).all() and np.isfinite(answer.scores).all()):
                raise ValueError(
                    f"the detections of {self._where} are not finite (nan or inf): its weights are damaged, or they do "
                    "not go with these images"
                )
            answers.append(answer)
        return answers


def detect_images(
    detector: Union[Detector, ImageDetector], images: Iterable[Any], score_above: float = 0.0
) -> List[ImageDetections]:
    """Return what a detector finds on images, in their own pixels.

    Args:
        detector: An open detector, or an `ImageDetector` of weights or of an export.
        images: Paths, open images of Pillow, or arrays: RGB (h, w, 3) or gray (h, w), uint8.
        score_above: Detections of lower scores are left out.

    Raises:
        OSError: A file cannot be read (FileNotFoundError if it is not there) or is no image.
        ValueError: An array is no image, or a detection is no number.
        TypeError: `detector` is none.

    Example:
        >>> [found] = detect_images(net, ["street.jpg"], score_above=0.5)
        >>> found.boxes, found.scores, found.classes
    """
    check_type("detector", detector, Detector, ImageDetector, words="a detector, or an ImageDetector")
    known = detector if isinstance(detector, ImageDetector) else ImageDetector.of_net(detector)
    waiting = iter(images)
    found: List[ImageDetections] = []
    while True:
        inputs = [known._input(_pixels(image)) for image in itertools.islice(waiting, _BATCH)]
        if not inputs:
            return [each.chosen(score_above) for each in found]
        found += known._answers(inputs)


def draw_detections(image: Any, found: ImageDetections, names: Optional[Sequence[str]] = None) -> np.ndarray:
    """Return an image (h, w, 3) with the boxes of its detections, their classes and scores in percent.

    Args:
        image: As for `detect_images`.
        found: On this image.
        names: Of the classes; None: their numbers.
    """
    boxes = [
        DrawnBox(tuple(box), class_color(label), f"{names[label] if names else label} {score:.0%}")
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist())
    ]
    return draw_boxes(_pixels(image), boxes)


def _pixels(image: Any) -> np.ndarray:
    """The pixels of an image, (h, w, 3) uint8 RGB."""
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    pixels = image.asnumpy() if isinstance(image, mx.nd.NDArray) else np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(
            f"an image is an array (h, w, 3) or (h, w) of uint8, not {pixels.shape} of {pixels.dtype}; or a path, or "
            "an image of Pillow"
        )
    return np.ascontiguousarray(pixels)
