"""The images of the highest loss, as a page that needs no other file."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import numpy as np

from ..files.write import make_folder, write_text
from ..train.data.augment import cv2_module
from .answers import Answers
from .inputs import as_pixels
from .subject import Subject

__all__ = ["worst_page", "write_worst"]

_THUMBNAIL = 192  # pixels of the longest side; smaller images stay as they are
_SMALL = 64  # up to this side an image is stored without loss, and shown enlarged

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 1.2em; }
figure { margin: 0; overflow-wrap: anywhere; }
img { width: 192px; height: 192px; object-fit: contain; background: #eee; }
img.small { image-rendering: pixelated; }
.where { color: #666; font-size: 12px; }
"""


def write_worst(subject: Subject, answers: Answers, path) -> None:
    """Write `worst_page` to a file, in folders made as needed."""
    make_folder(Path(path).parent)
    write_text(path, worst_page(subject, answers))


def worst_page(subject: Subject, answers: Answers) -> str:
    """Return HTML with the images in `answers.worst`, as the network was shown them, with class and answer.

    Args:
        subject: What was asked.
        answers: To its evaluation images, with `keep` of them kept.
    """
    title = f"{subject.model} on {subject.data.settings.source}: the {len(answers.worst)} images of the highest loss"
    scores = answers.scores
    about = (
        f"Top-1 {scores['top1']:.2%}, top-5 {scores['top5']:.2%} of {answers.num_images:,} images, weights of "
        f"{subject.where}. Images as the network was shown them: {subject.data.preprocessing}."
    )
    figures = "\n".join(_figure(subject, answers, place, pixels) for place, pixels in answers.worst)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n<p>{html.escape(about)}</p>\n"
        f"<main>\n{figures}\n</main>\n</body>\n</html>\n"
    )


def _figure(subject: Subject, answers: Answers, place: int, given: np.ndarray) -> str:
    pixels = as_pixels(given, subject.data.preprocessing)
    label, predicted = int(answers.label[place]), int(answers.predicted[place])
    lines = [
        f"<b>{_named(subject, label)}</b>: {answers.probability[place]:.2%}",
        f"answer {_named(subject, predicted)}: {answers.confidence[place]:.2%}",
        f'<span class="where">loss {answers.loss[place]:.3f}, {html.escape(subject.data.val_where(place))}</span>',
    ]
    small = ' class="small"' if max(pixels.shape[:2]) <= _SMALL else ""
    image = f'<img{small} src="{_embedded(pixels)}" alt="">'
    return f"<figure>{image}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _named(subject: Subject, label: int) -> str:
    return html.escape(subject.name_of(label))


def _embedded(pixels: np.ndarray) -> str:
    """An image as an address that holds it."""
    cv2 = cv2_module()
    shrink = _THUMBNAIL / max(pixels.shape[:2])
    if shrink < 1:
        size = tuple(max(1, round(side * shrink)) for side in pixels.shape[1::-1])
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    kind = "png" if max(pixels.shape[:2]) <= _SMALL else "jpeg"
    own = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    _, content = cv2.imencode(f".{'jpg' if kind == 'jpeg' else kind}", own)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
