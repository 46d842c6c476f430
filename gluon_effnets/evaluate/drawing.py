"""Boxes drawn on images: lines and labels that are seen on dark and on light ground."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["DETECTED", "DIFFICULT", "TRUE", "DrawnBox", "class_color", "draw_boxes"]

Color = Tuple[int, int, int]
# Of Okabe and Ito's palette, which most eyes tell apart: what is there, and what was found.
TRUE: Color = (0, 158, 115)
DETECTED: Color = (213, 94, 0)
DIFFICULT: Color = (130, 130, 130)
_CLASS_COLORS: Tuple[Color, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (230, 25, 75), (145, 30, 180), (70, 240, 240), (170, 110, 40), (170, 255, 195),
)  # fmt: skip
_SMALLEST_TEXT = 11  # pixels


class DrawnBox(NamedTuple):
    """A box (x and y of two corners, in pixels), the color of its line, and a text at it, which may be empty.

    The text stands at the upper edge, or at the lower one if `below`.
    """

    box: Tuple[float, float, float, float]
    color: Color
    label: str = ""
    below: bool = False


def class_color(label: int) -> Color:
    """The color of a class; that of another one again from the 13th class on."""
    return _CLASS_COLORS[label % len(_CLASS_COLORS)]


def draw_boxes(image: np.ndarray, boxes: Iterable[DrawnBox]) -> np.ndarray:
    """Return an image with boxes: their lines grow with the image, and have a dark and a light rim.

    Args:
        image: RGB pixels (h, w, 3) or gray ones (h, w), uint8.
        boxes: Of which the first lie on top, as do all labels.

    Returns:
        (h, w, 3) uint8.
    """
    drawn = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    canvas, width = ImageDraw.Draw(drawn), line_width(drawn.size)
    font = _font(max(_SMALLEST_TEXT, round(5.5 * width)))
    ordered = list(boxes)[::-1]
    for box in ordered:
        _draw_line(canvas, box, width, drawn.size)
    for box in ordered:
        if box.label:
            _draw_label(canvas, box, width, drawn.size, font)
    return np.asarray(drawn)


def line_width(size: Tuple[int, int]) -> int:
    """The width of a line on an image of a size, in pixels: two up to 600 pixels, then a three hundredth."""
    return max(2, round(max(size) / 300))


def _draw_line(canvas: Any, drawn: DrawnBox, width: int, size: Tuple[int, int]) -> None:
    """The line lies inside of the box, and so on the image; rims of a pixel are what makes it stand out."""
    left, top, right, bottom = _pixels(drawn.box, size)
    rims = [((0, 0, 0), 0, 1), (drawn.color, 1, width), ((255, 255, 255), width + 1, 1)]
    for color, inset, thickness in rims:
        corners = (left + inset, top + inset, right - inset, bottom - inset)
        if corners[0] <= corners[2] and corners[1] <= corners[3]:
            canvas.rectangle(corners, outline=color, width=thickness)


def _draw_label(canvas: Any, drawn: DrawnBox, width: int, size: Tuple[int, int], font: Any) -> None:
    """Outside of the box where there is room, else at its edge inside, and never beyond the image."""
    left, top, _, bottom = _pixels(drawn.box, size)
    x0, y0, x1, y1 = canvas.textbbox((0, 0), drawn.label, font=font)
    wide, high = x1 - x0 + 2 * width, y1 - y0 + 2 * width
    left = max(0, min(left, size[0] - wide))
    if drawn.below:
        top = bottom + 1 if bottom + high < size[1] else max(0, bottom + 1 - high)
    else:
        top = top - high if top >= high else min(top, max(0, size[1] - high))
    canvas.rectangle((left, top, left + wide - 1, top + high - 1), fill=drawn.color)
    red, green, blue = drawn.color
    ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)
    canvas.text((left + width - x0, top + width - y0), drawn.label, fill=ink, font=font)


def _pixels(box: Iterable[float], size: Tuple[int, int]) -> Tuple[int, int, int, int]:
    """The first and the last pixels of a box, which lie on the image."""
    left, top, right, bottom = np.rint(np.asarray(list(box), np.float64)).astype(int).tolist()
    left, top = min(max(left, 0), size[0] - 1), min(max(top, 0), size[1] - 1)
    return left, top, min(max(right - 1, left), size[0] - 1), min(max(bottom - 1, top), size[1] - 1)


@functools.lru_cache(maxsize=8)
def _font(size: int) -> Any:
    """A font with the letters of many languages, which matplotlib brings, or Pillow's own."""
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin:
        path = Path(found.origin).with_name("mpl-data") / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default()
