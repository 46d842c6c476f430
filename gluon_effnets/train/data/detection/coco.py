"""The coco source: annotation files of COCO's instances, and the folders of their images."""

from __future__ import annotations

import logging
import math
import os
import re
from pathlib import PurePosixPath
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from ....files.schema import Check, list_of, number, record, text, whole
from ....files.side_json import read_json
from ....files.text import shortened, shown
from ..base import Shard
from ..settings import DataSettings
from .annotations import MOST_BOXES, Annotation, Annotations, check_annotations
from .bad_boxes import BadBoxes
from .data import DetectionData
from .photos import FilePhotos
from .sizes import file_header, image_sizes

__all__ = ["open_coco"]

_MOST_BYTES = 1 << 32
_MOST_ROWS = 20_000_000
_LARGEST_ID = 1 << 62
# Of no use here, and most of the bytes.
_FORGOTTEN = ("segmentation", "keypoints", "segments_info", "caption")
_log = logging.getLogger("gluon_effnets")


def _four_numbers(value: Any, where: str) -> None:
    """Allow lists of four numbers, also of such that are not finite, which are bad boxes and no bad file."""
    fits = isinstance(value, list) and len(value) == 4
    if not fits or not all(isinstance(part, (int, float)) and not isinstance(part, bool) for part in value):
        raise ValueError(f"{where} is {shortened(value)}; it must be a list of four numbers")


def _any_number(value: Any, where: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{where} is {shortened(value)}; it must be a number")


_ID: Check = whole(-_LARGEST_ID, _LARGEST_ID)
_SIDE: Check = number(0, 1 << 24)
_FILE: Check = record(
    {
        "images": list_of(
            record({"id": _ID, "file_name": text(4096)}, {"width": _SIDE, "height": _SIDE}, closed=False),
            most=_MOST_ROWS,
        ),
        "annotations": list_of(
            record(
                {"image_id": _ID, "category_id": _ID, "bbox": _four_numbers},
                {"iscrowd": whole(0, 1), "area": _any_number},
                closed=False,
            ),
            most=_MOST_ROWS,
        ),
        "categories": list_of(record({"id": _ID, "name": text()}, closed=False), least=1, most=100_000),
    },
    closed=False,
)


class _Content(NamedTuple):
    """What a file says: names of the classes by their ids, in the order of these, its images, and the boxes of each."""

    path: str
    classes: Dict[int, str]
    images: List[Dict[str, Any]]
    rows: Dict[int, List[Dict[str, Any]]]


def open_coco(shard: Shard, path: str) -> DetectionData:
    """Images with boxes in the layout of COCO.

    A folder holds ``annotations/instances_PART.json`` and the images in ``PART``: trained on is ``train2017`` or the
    only other part that begins with ``train``, evaluated ``val2017`` or the like; `train_parts` and `eval_parts` choose
    others. A single file is for evaluation alone.

    Args:
        shard: The part that this worker reads.
        path: Of the folder or of the file.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: A file is not what it should be, or a box is bad and `bad_boxes` is ``raise``.
        UnreadableImageError: An image is missing or unreadable, unless such images are skipped.
    """
    settings = shard.settings
    if os.path.isdir(path):
        train_files = _files(path, settings.train_parts, "train_parts", ("train",))
        val_files = _files(path, settings.eval_parts, "eval_parts", ("val", "test"))
        if not train_files and not val_files:
            raise FileNotFoundError(f"neither instances_train*.json nor instances_val*.json in {path}/annotations.")
    else:
        train_files, val_files = [], [path]
    # A file is read once, whatever it serves for.
    contents = {file: _read(file) for file in dict.fromkeys([*train_files, *val_files])}
    first = next(iter(contents.values()))
    for content in contents.values():
        if content.classes != first.classes:
            raise ValueError(f"{content.path} has other categories than {first.path}; both must have the same.")
    bad = BadBoxes(settings.bad_boxes)
    paths = {file: _paths(content) for file, content in contents.items()}
    evaluated = {path for file in val_files for path in paths[file]}
    made: List[Optional[FilePhotos]] = []
    for files, without in ((train_files, evaluated), (val_files, set())):
        parts = [_part(contents[file], paths[file], without, settings, bad) for file in files]
        made.append(_together(parts) if parts else None)
    if shard.rank == 0:
        listed = [" and ".join(map(os.path.basename, files)) or "nothing" for files in (train_files, val_files)]
        _log.info("%s: trains on %s, evaluates on %s; %d categories", path, *listed, len(first.classes))
        both = sum(path in evaluated for file in train_files for path in paths[file])
        if both:
            _log.warning("%s: %d images are for the evaluation and not trained on", path, both)
        bad.report(settings.source)
    return DetectionData(shard, made[0], made[1], list(first.classes.values()))


def _files(folder: str, asked: Optional[Sequence[str]], setting: str, begins: Sequence[str]) -> List[str]:
    """The annotation files of the parts that a setting asks for, or of the usual one."""
    inner = os.path.join(folder, "annotations")
    there = {}
    for name in sorted(os.listdir(inner) if os.path.isdir(inner) else ()):
        match = re.fullmatch(r"instances_(.+)\.json", name)
        if match:
            there[match.group(1)] = os.path.join(inner, name)
    if asked is not None:
        unknown = [part for part in asked if part not in there]
        if unknown:
            known = ", ".join(there) or "none"
            raise ValueError(f"data.{setting} names {shown(unknown[0])!r}, which is not there; there are {known}.")
        return [there[part] for part in asked]
    for begin in begins:
        found = [part for part in there if part.startswith(begin)]
        usual = f"{begin}2017"
        if usual in found or len(found) == 1:
            return [there[usual if usual in found else found[0]]]
        if found:
            raise ValueError(f"{inner} has the parts {', '.join(found)}: choose by data.{setting}.")
    return []


def _read(path: str) -> _Content:
    content = read_json(path, "annotations", _MOST_BYTES, finite=False, without=_FORGOTTEN)
    _FILE(content, path)
    classes = {row["id"]: row["name"] for row in sorted(content["categories"], key=lambda row: row["id"])}
    if len(classes) < len(content["categories"]):
        raise ValueError(f"{path} has two categories with the same id.")
    rows: Dict[int, List[Dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    if len(rows) < len(content["images"]):
        raise ValueError(f"{path} has two images with the same id.")
    for place, row in enumerate(content["annotations"]):
        if row["image_id"] not in rows:
            raise ValueError(f"{path}: annotations[{place}] is of the image {row['image_id']}, which is not there.")
        rows[row["image_id"]].append(row)
    for image, boxes in rows.items():
        if len(boxes) > MOST_BOXES:
            raise ValueError(f"{path} has {len(boxes):,} boxes of the image {image}; at most {MOST_BOXES:,} are read.")
    return _Content(path, classes, content["images"], rows)


def _paths(content: _Content) -> List[str]:
    folder = _folder_of_images(content.path, content.images)
    return [os.path.join(folder, _inner_path(image["file_name"], content.path)) for image in content.images]


def _part(
    content: _Content, paths: Sequence[str], without: Set[str], settings: DataSettings, bad: BadBoxes
) -> Tuple[Annotations, List[str]]:
    """The checked annotations of a file, but for images without which it is taken, and the paths of their images."""
    images = [image for image, path in zip(content.images, paths) if path not in without]
    paths = [path for path in paths if path not in without]
    text = f"reading the sizes of the images of {content.path}"
    sizes = image_sizes(len(paths), lambda position: file_header(paths[position]), settings, text)
    place = {category: number for number, category in enumerate(content.classes)}
    annotations = (_annotation(image, content, place) for image in images)
    checked, kept = check_annotations(annotations, sizes, bad)
    return checked, [paths[position] for position in kept]


def _folder_of_images(path: str, images: Sequence[Dict[str, Any]]) -> str:
    """The folder of the images of a file: by its name, or beside it; the first that has the first image."""
    beside_it, stem = os.path.dirname(path) or ".", os.path.splitext(os.path.basename(path))[0]
    part = re.sub(r"^instances_", "", stem)
    above = os.path.dirname(os.path.abspath(beside_it))
    folders = [os.path.join(above, part), os.path.join(beside_it, part), os.path.join(above, "images", part)]
    folders += [os.path.join(above, "images"), os.path.join(beside_it, "images"), above, beside_it]
    if not images:
        return folders[0]
    name = _inner_path(images[0]["file_name"], path)
    found = [folder for folder in folders if os.path.exists(os.path.join(folder, name))]
    # Where the first image is missing, the message names the usual place.
    return (found or [folder for folder in folders if os.path.isdir(folder)])[0]


def _inner_path(name: str, whose: str) -> str:
    """The path of an image within its folder, as a file names it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or not name.isprintable():
        raise ValueError(f"{whose} names the image {shortened(name)}; it may name images within their folder alone.")
    return str(path)


def _annotation(image: Dict[str, Any], content: _Content, place: Dict[int, int]) -> Annotation:
    rows = content.rows[image["id"]]
    boxes, areas = [], []
    for row in rows:
        left, top, width, height = map(float, row["bbox"])
        boxes.append((left, top, left + width, top + height))
        area = float(row.get("area", math.nan))
        areas.append(area if math.isfinite(area) else width * height)
    size = int(image.get("height", 0)), int(image.get("width", 0))
    return Annotation(
        str(image["id"]),
        f"{content.path}, image {image['id']} ({shown(image['file_name'])})",
        size if all(size) else None,
        boxes,
        [place.get(row["category_id"], -1) for row in rows],
        [row["category_id"] for row in rows],
        [row.get("iscrowd", 0) == 1 for row in rows],
        areas,
    )


def _together(parts: Sequence[Tuple[Annotations, List[str]]]) -> FilePhotos:
    """The images of several files; the number of the file tells those apart that have the same id."""
    joined = Annotations.joined([annotations for annotations, _ in parts])
    if len(set(joined.images)) < len(joined.images):
        names = [f"{number}/{image}" for number, (part, _) in enumerate(parts) for image in part.images]
        joined = joined._replace(images=names)
    return FilePhotos(joined, [path for _, part in parts for path in part])
