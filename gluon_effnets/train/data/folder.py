"""The folder source: ``DIR/train/CLASS/*.jpg`` and ``DIR/val/CLASS/*.jpg``."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from .base import Shard
from .decode import decode_image
from .settings import missing_path_message
from .threaded import ThreadedData

EXTENSIONS = (".jpg", ".jpeg", ".png")


def open_folder(shard: Shard, folder: str) -> ThreadedData:
    """Photos in one folder per class; class indices follow the sorted folder names.

    Raises:
        FileNotFoundError: There is neither ``train`` nor ``val`` in `folder`.
        ValueError: A part holds no class folders, a class is empty, or the two parts name different classes.
    """
    train, val = (_list_classes(os.path.join(folder, part)) for part in ("train", "val"))
    if train is None and val is None:
        looked_at = f"{folder}/train and {folder}/val" if os.path.isdir(folder) else folder
        raise FileNotFoundError(missing_path_message(looked_at, folder))
    if train is not None and val is not None:
        _check_same_classes(folder, set(train), set(val))
    names = sorted(train or val or ())
    return ThreadedData(shard, _photos(train, names), _photos(val, names), len(names), names)


def _list_classes(folder: str) -> dict[str, list[str]] | None:
    """Class name -> sorted paths of its images, or None where `folder` does not exist."""
    if not os.path.isdir(folder):
        return None
    classes = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir() and not entry.name.startswith("."):
            names = sorted(name for name in os.listdir(entry.path) if name.lower().endswith(EXTENSIONS))
            classes[entry.name] = [os.path.join(entry.path, name) for name in names if name[0] != "."]
    if not classes:
        raise ValueError(f"{folder} holds no class folders; images must lie in {folder}/CLASS/.")
    empty = [name for name, paths in classes.items() if not paths]
    if empty:
        raise ValueError(
            f"{os.path.join(folder, empty[0])} holds no image ({', '.join(EXTENSIONS)}).\n"
            "Add images or remove the folder."
        )
    return classes


def _check_same_classes(folder: str, train: set, val: set) -> None:
    for names, where, other in ((train - val, "train", "val"), (val - train, "val", "train")):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise ValueError(
                f"{folder}: {len(names)} class folder(s) in {where} but not in {other}: {shown}.\n"
                "Both must have the same class folders."
            )


class FolderPhotos(NamedTuple):
    """Image files and their class indices (n,) int32."""

    paths: list[str]
    labels: np.ndarray

    def read(self, position: int) -> np.ndarray:
        """One decoded image, (h, w, 3) uint8 RGB."""
        with open(self.paths[position], "rb") as file:
            return decode_image(file.read(), self.paths[position])


def _photos(classes: dict[str, list[str]] | None, names: list[str]) -> FolderPhotos | None:
    if classes is None:
        return None
    counts = [len(classes[name]) for name in names]
    paths = [path for name in names for path in classes[name]]
    return FolderPhotos(paths, np.repeat(np.arange(len(names), dtype=np.int32), counts))
