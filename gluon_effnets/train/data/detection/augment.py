"""Augmentation of images with boxes: the steps of SSD's and of torchvision's training, drawn from one generator.

All of them end with the whole window resized to a square, its aspect not kept; so does the evaluation, and
`Detector.detect` undoes it. Two-stage detectors are usually trained on images whose shorter side is resized, so that
each has a size of its own. Here every batch must have one shape; a border would cost as much computation as the image
that it replaces, and would have to be known wherever boxes are brought back to the original.
"""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Tuple

import numpy as np

from ....runtime.detections import overlaps
from ..augment import cv2_module, resize
from ..settings import PLAIN, DataSettings

__all__ = ["Scene", "augment_scene", "shown"]

_HUE, _BRIGHTNESS, _LOW, _HIGH = 18.0, 32.0, 0.5, 1.5
_CHANNELS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
_LARGEST_EXPANSION = 4.0
_LEAST_SIDE, _LEAST_ASPECT, _MOST_ASPECT = 0.3, 0.5, 2.0
# Overlaps that a window must have with one of the boxes at least; None: no window.
_SSD_OVERLAPS, _SSD_TRIALS = (None, 0.1, 0.3, 0.7, 0.9, -np.inf), 50
_SSDLITE_OVERLAPS, _SSDLITE_TRIALS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, None), 40

_Random = np.random.RandomState


class Scene(NamedTuple):
    """An image with boxes.

    Attributes:
        image: RGB on the scale 0..255, (h, w, 3).
        boxes: (M, 4), corners in pixels of the image.
        places: (M,), which of the boxes at the beginning these are.
    """

    image: np.ndarray
    boxes: np.ndarray
    places: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """The boxes in shares of the image."""
        height, width = self.image.shape[:2]
        return self.boxes / (width, height, width, height)

    def window(self, left: int, top: int, right: int, bottom: int, kept: np.ndarray) -> Scene:
        """What a window shows, with some of the boxes, cut to it."""
        boxes = np.clip(self.boxes[kept], (left, top, left, top), (right, bottom, right, bottom))
        return Scene(self.image[top:bottom, left:right], boxes - (left, top, left, top), self.places[kept])

    def centers_within(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        """Which boxes have their center inside of a window, (M,)."""
        x, y = (self.boxes[:, :2] + self.boxes[:, 2:]).T / 2
        return (left < x) & (x < right) & (top < y) & (y < bottom)


def shown(image: np.ndarray, settings: DataSettings, interpolation: str = "bilinear") -> np.ndarray:
    """Return an image as a detector sees it, (h, w, 3) -> (image_size, image_size, 3): resized whatever its aspect."""
    return resize(image, settings.image_size, settings.image_size, interpolation)


def augment_scene(
    image: np.ndarray, boxes: np.ndarray, settings: DataSettings, random: _Random
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Augment an image with boxes for training.

    Args:
        image: (h, w, 3) uint8, RGB.
        boxes: (M, 4), corners in pixels.
        settings: `augment`, `mirror`, `mean` and `image_size` count.
        random: What all chance is drawn from.

    Returns:
        The image (image_size, image_size, 3) on the scale 0..255, the boxes that are left in shares of it, and their
        places among the M.
    """
    scene = Scene(image, boxes, np.arange(len(boxes)))
    if settings.augment in PLAIN:
        interpolation = settings.eval_interpolation if settings.augment == "evaluation" else "bilinear"
        return shown(image, settings, interpolation), scene.shares, scene.places
    scene = _STEPS[settings.augment](scene, settings, random)
    # Both sources resize numbers with fractions: the one after its colors were changed, the other after normalizing.
    # They mirror before; behind it there is less to move.
    pixels, boxes = shown(scene.image.astype(np.float32, copy=False), settings), scene.shares
    if settings.mirror and random.randint(2):
        pixels, boxes[:, 0::2] = pixels[:, ::-1], 1 - boxes[:, 2::-2]
    return pixels, boxes, scene.places


def _ssd(scene: Scene, settings: DataSettings, random: _Random) -> Scene:
    """The steps of lufficc/SSD (from amdegroot/ssd.pytorch), in their order and with their draws."""
    scene = scene._replace(image=distort(scene.image, random))
    return ssd_crop(expand(scene, settings.mean, random), random)


def _ssdlite(scene: Scene, settings: DataSettings, random: _Random) -> Scene:
    """The steps of torchvision's preset ``ssdlite``."""
    return ssdlite_crop(scene, random)


def _frcnn(scene: Scene, settings: DataSettings, random: _Random) -> Scene:
    """Faster R-CNN is trained with a mirror alone."""
    return scene


_STEPS: Dict[str, Callable[[Scene, DataSettings, _Random], Scene]] = {
    "ssd": _ssd,
    "ssdlite": _ssdlite,
    "frcnn": _frcnn,
}


def distort(image: np.ndarray, random: _Random) -> np.ndarray:
    """Change brightness, contrast, saturation and hue, and the order of the channels, each with a probability of 1/2.

    (h, w, 3) RGB -> float32; nothing is cut to 0..255. Contrast changes before saturation and hue or behind them.
    """
    cv2 = cv2_module()
    image = image.astype(np.float32)

    def contrast() -> None:
        if random.randint(2):
            image[:] *= np.float32(random.uniform(_LOW, _HIGH))

    if random.randint(2):
        image += np.float32(random.uniform(-_BRIGHTNESS, _BRIGHTNESS))
    first = random.randint(2)
    if first:
        contrast()
    saturated = random.uniform(_LOW, _HIGH) if random.randint(2) else None
    turned = random.uniform(-_HUE, _HUE) if random.randint(2) else None
    colors = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    if saturated is not None:
        colors[..., 1] *= np.float32(saturated)
    if turned is not None:
        hue = colors[..., 0] + np.float32(turned)
        hue[hue > 360] -= 360
        hue[hue < 0] += 360
        colors[..., 0] = hue
    image = cv2.cvtColor(colors, cv2.COLOR_HSV2RGB)
    if not first:
        contrast()
    if random.randint(2):
        image = image[..., _CHANNELS[random.randint(len(_CHANNELS))]]
    return image


def expand(scene: Scene, mean: Tuple[float, ...], random: _Random) -> Scene:
    """With a probability of 1/2 put the image somewhere on a canvas of the mean color, up to four times as long."""
    if random.randint(2):
        return scene
    height, width = scene.image.shape[:2]
    ratio = random.uniform(1, _LARGEST_EXPANSION)
    left = int(random.uniform(0, width * ratio - width))
    top = int(random.uniform(0, height * ratio - height))
    below, beside = int(height * ratio) - top - height, int(width * ratio) - left - width
    cv2 = cv2_module()
    canvas = cv2.copyMakeBorder(scene.image, top, below, left, beside, cv2.BORDER_CONSTANT, value=mean)
    return Scene(canvas, scene.boxes + (left, top, left, top), scene.places)


def ssd_crop(scene: Scene, random: _Random) -> Scene:
    """Cut out a window that overlaps one of the boxes enough; boxes whose center is not inside of it are dropped."""
    if not len(scene.boxes):
        return scene
    height, width = scene.image.shape[:2]
    while True:
        overlap = _SSD_OVERLAPS[random.randint(len(_SSD_OVERLAPS))]
        if overlap is None:
            return scene
        for _ in range(_SSD_TRIALS):
            w, h = random.uniform(_LEAST_SIDE * width, width), random.uniform(_LEAST_SIDE * height, height)
            if not _LEAST_ASPECT <= h / w <= _MOST_ASPECT:
                continue
            # The source names one end of the range alone, so that the other is NumPy's: 1.
            left, top = random.uniform(width - w, 1.0), random.uniform(height - h, 1.0)
            window = int(left), int(top), int(left + w), int(top + h)
            if overlaps(np.array(window, np.float64), scene.boxes).max() < overlap:
                continue
            kept = scene.centers_within(*window)
            if kept.any():
                return scene.window(*window, kept)


def ssdlite_crop(scene: Scene, random: _Random) -> Scene:
    """Cut out a window as `ssd_crop` does, by the rules of torchvision's ``RandomIoUCrop``.

    The overlap counts of those boxes alone whose center is inside of the window.
    """
    if not len(scene.boxes):
        return scene
    height, width = scene.image.shape[:2]
    while True:
        overlap = _SSDLITE_OVERLAPS[random.randint(len(_SSDLITE_OVERLAPS))]
        if overlap is None:
            return scene
        for _ in range(_SSDLITE_TRIALS):
            w, h = (int(side * random.uniform(_LEAST_SIDE, 1)) for side in (width, height))
            if not (w and h and _LEAST_ASPECT <= w / h <= _MOST_ASPECT):
                continue
            left, top = (int(space * random.uniform()) for space in (width - w, height - h))
            window = left, top, left + w, top + h
            kept = scene.centers_within(*window)
            if kept.any() and overlaps(np.array(window, np.float64), scene.boxes[kept]).max() >= overlap:
                return scene.window(*window, kept)
