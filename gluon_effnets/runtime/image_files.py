"""Finding image files in folders, and saying in one line which files are passed over."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Set, Tuple

__all__ = ["SUFFIXES", "PassedOver", "class_images", "images_below", "is_image"]

# Of every reader of files: training, evaluation and predict.
SUFFIXES = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# What systems leave in folders of pictures.
_LITTER = ("desktop.ini", "thumbs.db")
_log = logging.getLogger("gluon_effnets")


def is_image(name: str) -> bool:
    """Whether a file is taken for an image, by its name alone."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


class PassedOver:
    """The files that a search does not take: counts, and an example for each reason.

    Attributes:
        irregular: What was taken by its name, but is a folder, a pipe, or a link to nothing.
    """

    HIDDEN = "hidden image file(s)"
    NESTED = "image(s) in folders below a class folder"
    OUTSIDE = "image(s) outside of class folders"
    OTHER = f"file(s) that are no {', '.join(SUFFIXES)}"

    def __init__(self) -> None:
        self._found: Dict[str, Tuple[int, str]] = {}
        self.irregular: List[str] = []

    def add(self, reason: str, path: str) -> None:
        """Count a file that is passed over for a reason."""
        number, example = self._found.get(reason, (0, path))
        self._found[reason] = number + 1, example

    def report(self, folder) -> None:
        """Say in one line what was passed over, if anything was."""
        if self._found:
            parts = [f"{number} {reason} ({example})" for reason, (number, example) in self._found.items()]
            _log.warning("%s: passed over %s", folder, ", ".join(parts))


def class_images(folder: str, passed_over: PassedOver) -> Dict[str, List[str]]:
    """Return the image files of every class folder, both sorted by name.

    Args:
        folder: Holds a folder per class; hidden ones are none.
        passed_over: Gets what is not taken.
    """
    classes = {}
    for entry in _entries(folder):
        if os.path.isdir(entry.path):
            if not entry.name.startswith("."):
                classes[entry.name] = list(_images_in(entry.path, passed_over))
        elif is_image(entry.name):
            hidden = entry.name.startswith(".")
            passed_over.add(PassedOver.HIDDEN if hidden else PassedOver.OUTSIDE, entry.path)
    return classes


def _images_in(folder: str, passed_over: PassedOver) -> Iterator[str]:
    for entry in _entries(folder):
        if entry.name.startswith("."):
            if is_image(entry.name):
                passed_over.add(PassedOver.HIDDEN, entry.path)
        elif is_image(entry.name):
            if not _is_file(entry):
                passed_over.irregular.append(entry.path)
            yield entry.path
        elif os.path.isdir(entry.path):
            for path in images_below([entry.path], PassedOver()):
                passed_over.add(PassedOver.NESTED, str(path))
        elif entry.name.lower() not in _LITTER:
            passed_over.add(PassedOver.OTHER, entry.path)


def images_below(folders: Iterable[str], passed_over: PassedOver) -> List[Path]:
    """Return the image files in folders and all folders below, sorted; links are followed, each folder once.

    Args:
        folders: Where to look.
        passed_over: Gets what is not taken.
    """
    found: List[Path] = []
    seen: Set[Tuple[int, int]] = set()
    for start in folders:
        for folder, inner, names in os.walk(start, followlinks=True):
            status = os.stat(folder)
            place = (status.st_dev, status.st_ino)
            if place in seen:
                inner.clear()
                continue
            seen.add(place)
            inner[:] = [name for name in inner if not name.startswith(".")]
            for name in names:
                path = os.path.join(folder, name)
                if not is_image(name):
                    if not name.startswith(".") and name.lower() not in _LITTER:
                        passed_over.add(PassedOver.OTHER, path)
                elif name.startswith("."):
                    passed_over.add(PassedOver.HIDDEN, path)
                else:
                    found.append(Path(path))
    return sorted(found)


def _is_file(entry: os.DirEntry) -> bool:
    """Whether an entry is a regular file; the system is asked only of links, of which there are few."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _entries(folder: str) -> List[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
