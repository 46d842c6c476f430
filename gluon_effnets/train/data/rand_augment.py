"""RandAugment, in the form that timm gave it: operations of Pillow, chosen by chance, near one strength."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from .settings import RandAugment

__all__ = ["OPERATIONS", "rand_augment"]

MAX_MAGNITUDE = 10.0
APPLIED = 0.5  # probability that a chosen operation is carried out
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


class _Draw:
    """What the operations need besides the image: random choices, and the colour of what comes into view."""

    def __init__(self, random: np.random.RandomState, fill: Sequence[int]):
        self._random, self.fill = random, fill[0] if len(fill) == 1 else tuple(fill)

    def sign(self) -> int:
        return 1 if self._random.randint(2) else -1

    def affine(self, image: Image.Image, *matrix: float) -> Image.Image:
        """Output (x, y) comes from (a x + b y + c, d x + e y + f)."""
        return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=self.filter(), fillcolor=self.fill)

    def filter(self) -> Image.Resampling:
        return _FILTERS[self._random.randint(len(_FILTERS))]


# Each takes (image, share, draw); share is magnitude / 10. Some are strongest at 0: posterizing and solarizing, and the
# enhancements, which go from 0.1 (almost grey, black, ...) over 1 (no change) to 1.9.


def _rotate(image, share, draw):
    return image.rotate(draw.sign() * 30 * share, resample=draw.filter(), fillcolor=draw.fill)


def _posterize(image, share, draw):
    # Pillow's own keeps at least one bit.
    mask = 256 - (1 << (8 - int(4 * share)))
    return image.point([value & mask for value in range(256)] * _bands(image))


def _solarize(image, share, draw):
    return ImageOps.solarize(image, int(256 * share))


def _solarize_add(image, share, draw):
    added = int(110 * share)
    return image.point([min(255, value + added) if value < 128 else value for value in range(256)] * _bands(image))


def _enhanced(kind: Callable):
    return lambda image, share, draw: kind(image).enhance(0.1 + 1.8 * share)


def _bands(image) -> int:
    return len(image.getbands())


OPERATIONS = {
    "AutoContrast": lambda image, share, draw: ImageOps.autocontrast(image),
    "Equalize": lambda image, share, draw: ImageOps.equalize(image),
    "Invert": lambda image, share, draw: ImageOps.invert(image),
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _enhanced(ImageEnhance.Color),
    "Contrast": _enhanced(ImageEnhance.Contrast),
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
    "ShearX": lambda image, share, draw: draw.affine(image, 1, draw.sign() * 0.3 * share, 0, 0, 1, 0),
    "ShearY": lambda image, share, draw: draw.affine(image, 1, 0, 0, draw.sign() * 0.3 * share, 1, 0),
    "TranslateXRel": lambda image, share, draw: draw.affine(
        image, 1, 0, draw.sign() * 0.45 * share * image.width, 0, 1, 0
    ),
    "TranslateYRel": lambda image, share, draw: draw.affine(
        image, 1, 0, 0, 0, 1, draw.sign() * 0.45 * share * image.height
    ),
}


def _to_pillow(image: np.ndarray) -> Image.Image:
    """(h, w, c) uint8 of one or three channels as an image of Pillow."""
    return Image.fromarray(np.ascontiguousarray(image if image.shape[2] == 3 else image[..., 0]))


def rand_augment(
    image: np.ndarray, options: RandAugment, fill: Sequence[float], random: np.random.RandomState
) -> np.ndarray:
    """`options.num` of the OPERATIONS, chosen with replacement, each carried out with probability 0.5.

    (h, w, c) uint8 of one or three channels -> the same. The magnitude of each is N(magnitude, std), cut to 0..10;
    what comes into view has the colour `fill`, of 0..255 per channel.
    """
    draw = _Draw(random, [min(255, round(value)) for value in fill])
    names = list(OPERATIONS)
    picture = _to_pillow(image)
    for chosen in random.randint(len(names), size=options.num):
        if random.uniform() >= APPLIED:
            continue
        magnitude = random.normal(options.magnitude, options.std)
        share = min(max(magnitude, 0.0), MAX_MAGNITUDE) / MAX_MAGNITUDE
        picture = OPERATIONS[names[chosen]](picture, share, draw)
    return np.asarray(picture).reshape(image.shape)
