"""The folder source: ``DIR/train/CLASS/*.jpg`` and ``DIR/val/CLASS/*.jpg``, or ``DIR/CLASS/*.jpg`` alone.

Class folders alone are divided here: of each class a share is held out for the evaluation, by the names of the files.
"""

from __future__ import annotations

import hashlib
import logging
import os
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from ...runtime.image_files import SUFFIXES, PassedOver, class_images
from .base import Shard
from .decode import decode_image, read_image_file
from .settings import EVALUATION_PARTS, missing_path_message
from .threaded import ThreadedData

_log = logging.getLogger("gluon_effnets")
_Classes = Dict[str, List[str]]


def open_folder(shard: Shard, folder: str) -> ThreadedData:
    """Photos in one folder per class; class indices follow the sorted folder names.

    What is passed over, such as hidden files and folders below the class folders, is said in one line.
    Without ``train`` and the parts of an evaluation, the folders of `folder` are the classes, and a share of their
    images is held out.

    Raises:
        FileNotFoundError: There is neither a part nor a class folder with images in `folder`.
        ValueError: A part holds no class folders, a class is empty, or the two parts name different classes.
        UnreadableImageError: The name of an image file stands for a folder, a broken link or a pipe, unless
            such images are skipped.
    """
    parts = [part for part in EVALUATION_PARTS if os.path.isdir(os.path.join(folder, part))]
    evaluation = parts[0] if parts else EVALUATION_PARTS[0]
    passed_over = PassedOver()
    train, val = (_list_classes(os.path.join(folder, part), passed_over) for part in ("train", evaluation))
    held_out = None
    if train is None and val is None:
        train, val, held_out = _divided(folder, shard, passed_over)
    if train is not None and val is not None:
        _check_same_classes(folder, set(train), set(val), evaluation)
    if shard.rank == 0:
        passed_over.report(folder)
        if val is None:
            _log.warning("%s: no evaluation images; none of the folders %s is there", folder, _listed(EVALUATION_PARTS))
    names = sorted(train or val or ())
    if shard.settings.on_error == "raise":
        for path in passed_over.irregular:
            read_image_file(path)
    data = ThreadedData(shard, _photos(train, names), _photos(val, names), len(names), names)
    data.held_out = held_out
    return data


def _divided(folder: str, shard: Shard, passed_over: PassedOver) -> Tuple[Optional[_Classes], _Classes, List[str]]:
    """The images of class folders to train on and to evaluate on, and the latter by their paths in the folder.

    Raises:
        FileNotFoundError: There are no class folders with images.
        ValueError: A class has no image, or too few.
    """
    looks_like_classes = os.path.isdir(folder) and any(class_images(folder, PassedOver()).values())
    classes = _list_classes(folder, passed_over) if looks_like_classes and not _foreign(folder) else None
    if classes is None:
        raise FileNotFoundError(_no_parts(folder))
    share, seed = shard.settings.held_out, shard.settings.held_out_seed
    train: _Classes = {}
    val: _Classes = {}
    for name, paths in classes.items():
        number = round(share * len(paths))
        if share < 1:
            if len(paths) < 2:
                raise ValueError(
                    f"{os.path.join(folder, name)} has a single image; it takes two, one to train on and one to "
                    "evaluate on. Add images or remove the folder."
                )
            number = min(max(number, 1), len(paths) - 1)
        chosen = set(sorted(paths, key=lambda path: _draw(seed, name, path))[:number])
        train[name] = [path for path in paths if path not in chosen]
        val[name] = [path for path in paths if path in chosen]
    held_out = sorted(os.path.relpath(path, folder) for paths in val.values() for path in paths)
    if shard.rank == 0:
        what = f"{share:.0%} of each class" if share < 1 else "all images"
        _log.warning(
            "%s: no train and val in it; %s held out for the evaluation, %d images (data.held_out, data.held_out_seed)",
            folder,
            what,
            len(held_out),
        )
    return (train if share < 1 else None), val, held_out


def _draw(seed: int, name: str, path: str) -> bytes:
    """What decides by the name of a file alone, so that new images leave the old ones where they were."""
    return hashlib.sha256(f"{seed}/{name}/{os.path.basename(path)}".encode("utf-8", "surrogateescape")).digest()


def _foreign(folder: str) -> bool:
    """Whether a folder looks like data of another kind."""
    entries = sorted(os.listdir(folder))
    return any(name.endswith(".rec") for name in entries) or any(
        os.path.isdir(os.path.join(folder, name, "Annotations")) for name in (".", *entries)
    )


def _no_parts(folder: str) -> str:
    """What a user reads whose folder has no parts: what is there, and how it should look."""
    looked_at = f"{folder}/train and {folder}/val"
    if not os.path.isdir(folder):
        return missing_path_message(folder, folder)
    entries = sorted(os.listdir(folder))
    records = [name for name in entries if name.endswith(".rec")]
    if records:
        return f"no data at {looked_at}, but {folder}/{records[0]} is there: write recordio:{folder}."
    if any(os.path.isdir(os.path.join(folder, name, "Annotations")) for name in (".", *entries)):
        return f"no data at {looked_at}, but annotations of boxes are there: write voc:{folder}, for detectors."
    found = f"{folder} holds {_listed(entries)}" if entries else f"{folder} is empty"
    return f"no data at {looked_at}; {found}.\nImages must lie in {folder}/train/CLASS/ and {folder}/val/CLASS/."


def _listed(names) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _list_classes(folder: str, passed_over: PassedOver) -> Optional[_Classes]:
    """Class name -> sorted paths of its images, or None where `folder` does not exist."""
    if not os.path.isdir(folder):
        return None
    classes = class_images(folder, passed_over)
    if not classes:
        raise ValueError(f"{folder} holds no class folders; images must lie in {folder}/CLASS/.")
    empty = [name for name, paths in classes.items() if not paths]
    if empty:
        where = os.path.join(folder, empty[0])
        inside = _listed(sorted(os.listdir(where))) or "nothing"
        raise ValueError(
            f"{where} holds no image ({', '.join(SUFFIXES)}), but {inside}.\nAdd images or remove the folder."
        )
    return classes


def _check_same_classes(folder: str, train: set, val: set, evaluation: str) -> None:
    for names, where, other in ((train - val, "train", evaluation), (val - train, evaluation, "train")):
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
        path = self.paths[position]
        return decode_image(read_image_file(path), path)

    def where(self, position: int) -> str:
        """How messages name an image: its path."""
        return self.paths[position]


def _photos(classes: Optional[_Classes], names: List[str]) -> FolderPhotos | None:
    if classes is None:
        return None
    counts = [len(classes[name]) for name in names]
    paths = [path for name in names for path in classes[name]]
    return FolderPhotos(paths, np.repeat(np.arange(len(names), dtype=np.int32), counts))
