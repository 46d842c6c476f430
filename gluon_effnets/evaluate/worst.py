"""Pages of images that need no other file: those of the highest loss, and those that a detector finds least on."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from ..files.write import make_folder, write_text
from ..train.data.augment import cv2_module
from .answers import Answers
from .detections import DetectionAnswers, SeenScene, best_score
from .detector import DetectorSubject
from .drawing import DETECTED, DIFFICULT, TRUE, DrawnBox, draw_boxes
from .inputs import as_pixels
from .subject import Subject

__all__ = ["PAGE_STYLE", "image_figure", "scene_with_boxes", "scenes_page", "worst_page", "write_page"]

_THUMBNAIL = 192  # pixels of the longest side; smaller images stay as they are
_SCENE = 480  # of images with boxes
_CROWDED = 5  # detections of a class in an image that are always drawn
_SMALL = 64  # up to this side an image is stored without loss, and shown enlarged

PAGE_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 1.2em; }
figure { margin: 0; overflow-wrap: anywhere; }
img { width: 192px; height: 192px; object-fit: contain; background: #eee; }
img.small { image-rendering: pixelated; }
.where { color: #666; font-size: 12px; }
main.scenes { grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); }
main.scenes img { width: 100%; height: auto; }
.legend b { padding: 0 0.4em; color: #fff; }
"""


def write_page(page: str, path) -> None:
    """Write a page to a file, in folders made as needed."""
    make_folder(Path(path).parent)
    write_text(path, page)


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
    figures = "\n".join(image_figure(subject, answers, place, pixels) for place, pixels in answers.worst)
    return _page(title, f"<p>{html.escape(about)}</p>\n<main>\n{figures}\n</main>")


def _page(title: str, content: str) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{PAGE_STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{content}\n</body>\n</html>\n"
    )


def image_figure(subject: Subject, answers: Answers, place: int, given: np.ndarray) -> str:
    """Return the HTML of an image as the network was shown it, with its class, the answer, and where it is from."""
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


def scenes_page(subject: DetectorSubject, answers: DetectionAnswers) -> str:
    """Return HTML with the images in `answers.worst` and `answers.best`, with their objects and detections drawn.

    Of each class the detections are drawn whose scores are at least `best_score`, but not many more than there are
    objects; of a class that nothing finds, as many as there are objects in the image.

    Args:
        subject: What was asked.
        answers: To its evaluation images, with some of them kept.
    """
    source, result = subject.data.settings.source, answers.result
    title = f"{subject.model} on {source}: images with the lowest and the highest average precision"
    about = (
        f"mAP {result.mean:.2%} ({result.kind}) of {result.images:,} images, weights of {subject.where}. Images as "
        f"the network was shown them, in the ratio of the originals: {subject.data.preprocessing}. The average "
        "precision of an image is that of its classes at an overlap of 0.5. Detections are drawn from that score "
        "on which gives their class the highest F1."
    )
    words = (
        ("object", TRUE),
        ("detection", DETECTED),
        ("difficult, or a crowd: counts for nothing", DIFFICULT),
    )
    legend = " ".join(f'<b style="background: rgb{color}">{word}</b>' for word, color in words)
    least = {name: best_score(answers, name) for name in result.by_class}
    parts = [f"<p>{html.escape(about)}</p>", f'<p class="legend">{legend}</p>']
    for what, scenes in (("Lowest", answers.worst), ("Highest", answers.best)):
        figures = "\n".join(_scene(subject, scene, list(least.values())) for scene in scenes)
        parts.append(f'<h2>{what}</h2>\n<main class="scenes">\n{figures}\n</main>')
    return _page(title, "\n".join(parts))


def _scene(subject: DetectorSubject, scene: SeenScene, least: Sequence[Optional[float]]) -> str:
    truth = scene.seen.truth
    number = int((~truth.difficult).sum())
    lines = [
        f"average precision <b>{scene.average_precision:.2%}</b>, {number} object{'s' if number != 1 else ''}",
        f'<span class="where">{html.escape(subject.data.val_where(scene.place))}</span>',
    ]
    image = f'<img src="{_embedded(scene_with_boxes(subject, scene, least), _SCENE)}" alt="">'
    return f"<figure>{image}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def scene_with_boxes(subject: DetectorSubject, scene: SeenScene, least: Sequence[Optional[float]]) -> np.ndarray:
    """Return an image (h, w, 3) with its objects and detections drawn, in the ratio of the original.

    Args:
        subject: What was asked.
        scene: The image.
        least: Of each class the score from which on detections are drawn; None: as many as there are objects.
    """
    truth, boxes, scores, classes = scene.seen
    pixels = as_pixels(scene.input, subject.data.preprocessing)
    scale = _SCENE / max(truth.size)
    height, width = (max(1, round(side * scale)) for side in truth.size)
    pixels = cv2_module().resize(pixels, (width, height), interpolation=cv2_module().INTER_LINEAR)
    # The sides are whole pixels.
    factors = np.tile([width / truth.size[1], height / truth.size[0]], 2)
    drawn = [
        DrawnBox(tuple(box * factors), DIFFICULT if difficult else TRUE, subject.name_of(int(label)), below=True)
        for box, label, difficult in zip(truth.boxes, truth.classes, truth.difficult)
    ]
    for label, limit in enumerate(least):
        own, objects = np.flatnonzero(classes == label), int((truth.classes == label).sum())
        own = own[np.argsort(-scores[own], kind="stable")]
        own = own[:objects] if limit is None else own[scores[own] >= limit][: max(_CROWDED, 2 * objects)]
        drawn += [
            DrawnBox(tuple(boxes[row] * factors), DETECTED, f"{subject.name_of(label)} {scores[row]:.0%}")
            for row in own
        ]
    return draw_boxes(pixels, drawn)


def _embedded(pixels: np.ndarray, most: int = _THUMBNAIL) -> str:
    """An image as an address that holds it; its longer side has at most so many pixels."""
    cv2 = cv2_module()
    shrink = most / max(pixels.shape[:2])
    if shrink < 1:
        size = tuple(max(1, round(side * shrink)) for side in pixels.shape[1::-1])
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    kind = "png" if max(pixels.shape[:2]) <= _SMALL else "jpeg"
    own = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    _, content = cv2.imencode(f".{'jpg' if kind == 'jpeg' else kind}", own)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
