"""Which classes a network confuses: a table by class, the matrix of all answers, and its picture."""

from __future__ import annotations

import textwrap
from typing import Any, List, NamedTuple, Optional, Sequence

import numpy as np

from ..class_names import identifier
from ..pictures import load_pyplot, save_picture
from .answers import Answers
from .subject import Subject

__all__ = ["ClassRow", "Confusion", "class_rows", "confusion_matrix", "draw_confusion", "most_confused"]

_NAMED = 40  # classes up to which every one has its name and every cell its number
_LISTED = 24
_TICKS = 20
_NAME_LENGTH = 22


class ClassRow(NamedTuple):
    """One class: its images, the share of them that is recognized, and the class that they are mistaken for most.

    Shares are None, and texts too, where there is nothing to say.
    """

    label: int
    name: str
    images: int
    top1: Optional[float]
    mistaken_for: Optional[str]
    times: Optional[int]


class Confusion(NamedTuple):
    """Images of one class, `times` of all `images` of it, that are taken for another one."""

    label: int
    predicted: int
    times: int
    images: int


def confusion_matrix(answers: Answers, num_classes: int) -> np.ndarray:
    """Return how many images of each class (rows) got which answer (columns), (classes, classes)."""
    places = answers.label.astype(np.int64) * num_classes + answers.predicted
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_rows(subject: Subject, answers: Answers) -> List[ClassRow]:
    """Return a row for every class, in the order of the classes."""
    rows = []
    for label, counts in enumerate(confusion_matrix(answers, subject.data.num_classes)):
        images, right = int(counts.sum()), int(counts[label])
        wrong = counts.copy()
        wrong[label] = 0
        most = int(wrong.argmax())
        mistaken = (subject.name_of(most), int(wrong[most])) if wrong[most] else (None, None)
        rows.append(ClassRow(label, subject.name_of(label), images, right / images if images else None, *mistaken))
    return rows


def most_confused(matrix: np.ndarray, most: int) -> List[Confusion]:
    """Return the most frequent confusions; of equal ones those of classes with fewer images come first."""
    images, wrong = matrix.sum(axis=1), matrix.copy()
    np.fill_diagonal(wrong, 0)
    labels, predicted = np.nonzero(wrong)
    times = wrong[labels, predicted]
    order = np.lexsort((predicted, labels, images[labels], -times))[:most]
    return [Confusion(*map(int, (labels[i], predicted[i], times[i], images[labels[i]]))) for i in order]


def draw_confusion(subject: Subject, answers: Answers, picture: Any) -> None:
    """Draw the confusion matrix as a PNG, and list the most frequent confusions beside it.

    Args:
        subject: What was asked.
        answers: To its evaluation images.
        picture: The PNG file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    pyplot = load_pyplot("the confusion matrix")
    matrix = confusion_matrix(answers, subject.data.num_classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [_short(subject.name_of(label)) for label in range(len(matrix))]
    few = len(matrix) <= _NAMED
    side = max(5.0, 0.42 * len(matrix) + 1) if few else 11.0
    figure, (axes, beside) = pyplot.subplots(
        1, 2, figsize=(side + 5, side), gridspec_kw={"width_ratios": [side, 3.4]}, constrained_layout=True
    )
    drawn = _draw_cells(axes, matrix, shares) if few else _draw_points(axes, shares)
    step = 1 if few else -(-len(matrix) // _TICKS)
    ticks = np.arange(0, len(matrix), step)
    axes.set_xticks(ticks)
    axes.set_xticklabels([names[tick] for tick in ticks], rotation=90, fontsize=8)
    axes.set_yticks(ticks)
    axes.set_yticklabels([names[tick] for tick in ticks], fontsize=8)
    axes.set(xlabel="answer", ylabel="class")
    axes.set_title(f"{subject.model}: top-1 {answers.scores['top1']:.2%} of {answers.num_images:,} images", fontsize=10)
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="share of the images of a class")
    _list(beside, most_confused(matrix, _LISTED if not few else min(_LISTED, int(side * 3))), subject)
    save_picture(figure, picture, dpi=100)


def _draw_cells(axes, matrix: np.ndarray, shares: np.ndarray):
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for label, predicted in zip(*np.nonzero(matrix)):
        color = "white" if shares[label, predicted] > 0.5 else "black"
        count = f"{matrix[label, predicted]}"
        axes.text(predicted, label, count, ha="center", va="center", color=color, fontsize=8 - (len(count) > 3))
    return image


def _draw_points(axes, shares: np.ndarray):
    """Every cell that is not 0 as a point: as a pixel of an image it would not be seen. The darkest are on top."""
    labels, predicted = np.nonzero(shares)
    order = np.argsort(shares[labels, predicted])
    labels, predicted = labels[order], predicted[order]
    found = shares[labels, predicted]
    image = axes.scatter(predicted, labels, c=found, s=7, cmap="viridis_r", vmin=0, vmax=1, marker="s", linewidths=0)
    size = len(shares)
    axes.set(xlim=(-0.01 * size, 1.01 * size), ylim=(1.01 * size, -0.01 * size), aspect="equal")
    axes.grid(lw=0.3, alpha=0.5)
    axes.set_axisbelow(True)
    return image


def _list(axes, confusions: Sequence[Confusion], subject: Subject) -> None:
    axes.axis("off")
    axes.set_title("most frequent confusions", fontsize=10, loc="left")
    lines = [
        f"{found.times} of {found.images}  {_short(subject.name_of(found.label))} as "
        f"{_short(subject.name_of(found.predicted))}"
        for found in confusions
    ]
    text = "\n".join("\n".join(textwrap.wrap(line, 58, subsequent_indent="      ")) for line in lines) or "none"
    # A name may hold what would be a formula to matplotlib.
    axes.text(0, 1, text, va="top", fontsize=8, transform=axes.transAxes, parse_math=False)


def _short(name: str) -> str:
    """A name without WordNet's number, of a length that fits."""
    number = identifier(name)
    name = (name[len(number) :].strip() or number) if number != name else name
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..."
