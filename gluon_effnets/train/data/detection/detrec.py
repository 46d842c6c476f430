"""The detrec source: RecordIO files whose labels are lists of boxes, as MXNet's own readers of detection take them."""

from __future__ import annotations

import os
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ....runtime.header import Header, read_header
from ....runtime.recordio import RECORD_HEADER, join_parts, unpack
from ....runtime.records_check import objects_of
from ..base import Shard
from ..decode import UnreadableImageError
from ..labels import read_class_names
from ..records import RecordFile, progress, scan_records
from ..settings import EVALUATION_PARTS, DataSettings, missing_path_message
from .annotations import MOST_BOXES, Annotation, Annotations, check_annotations
from .bad_boxes import BadBoxes
from .data import DetectionData
from .sizes import image_sizes

__all__ = ["RecordPhotos", "open_detrec"]

_MOST_LABELS = 10 * MOST_BOXES  # of a record
# ImageDetRecordIter writes before a label: channels, height, width, and how many numbers follow; -1 fills it up.
_READER_HEADER, _CHANNELS, _PADDING = 4, (1, 3), -1


class RecordPhotos:
    """Images of record files and what is on them.

    Args:
        annotations: Of the images.
        places: File and record of each image, in the same order.

    Attributes:
        annotations: The argument.
        labels: Of every image an array with the classes of its boxes.
    """

    def __init__(self, annotations: Annotations, places: Sequence[Tuple[RecordFile, int]]):
        self.annotations, self._places = annotations, list(places)
        self.labels = annotations.labels

    def read(self, position: int) -> np.ndarray:
        """One decoded image, (h, w, 3) uint8 RGB."""
        records, place = self._places[position]
        return records.read(place)

    def where(self, position: int) -> str:
        """How messages name an image: its file and record."""
        records, place = self._places[position]
        return records.where(place)


def open_detrec(shard: Shard, path: str) -> DetectionData:
    """``DIR/train.rec`` and ``DIR/val.rec`` (or ``test.rec``), or a ``.rec`` file for evaluation alone.

    A label is a list: how many numbers its header has, how many an object has, the rest of the header, and for each
    object its class, two corners in shares of the image, and, if there are six, whether it counts for nothing. These
    corners are taken as they are, as GluonCV's ``RecordFileDetection`` does.

    The classes are the lines of ``classes.txt`` beside the files, or have numbers for names, as many as `classes` says
    or the labels need.

    Args:
        shard: The part that this worker reads.
        path: Of the folder or the file.

    Raises:
        FileNotFoundError: No such file exists.
        ValueError: A file is damaged, a label is no list of boxes, or a box is bad and `bad_boxes` is ``raise``.
        UnreadableImageError: An image cannot be read, unless such images are skipped.
    """
    settings = shard.settings
    folder, train_files, val_files = _find(path, settings)
    labels = {file: _labels(file) for file in [*train_files, *val_files]}
    names = read_class_names(folder)
    if names is None:
        kinds = np.concatenate([np.zeros(1), *(rows[:, 0] for _, objects in labels.values() for rows in objects)])
        highest = kinds[(kinds >= 0) & (kinds < _MOST_LABELS)].max()
        names = [str(place) for place in range(settings.classes or int(highest) + 1)]
    bad = BadBoxes(settings.bad_boxes)
    made: List[Optional[RecordPhotos]] = []
    for files in (train_files, val_files):
        parts = [_part(*labels[file], len(names), settings, bad) for file in files]
        places = [place for _, part in parts for place in part]
        made.append(RecordPhotos(Annotations.joined([part for part, _ in parts]), places) if parts else None)
    if shard.rank == 0:
        bad.report(settings.source)
    return DetectionData(shard, made[0], made[1], names)


def _find(path: str, settings: DataSettings) -> Tuple[str, List[str], List[str]]:
    """The folder, and the files to train and to evaluate on."""
    if path.endswith(".rec"):
        return os.path.dirname(path) or ".", [], [path]
    if not os.path.isdir(path):
        raise FileNotFoundError(f"no data at {path}; detrec:DIR has train.rec and val.rec with lists of boxes.")
    chosen: List[List[str]] = []
    for setting, usual in (("train_parts", ("train",)), ("eval_parts", EVALUATION_PARTS)):
        asked = getattr(settings, setting)
        there = [part for part in asked or usual if os.path.isfile(os.path.join(path, f"{part}.rec"))]
        if asked is not None and len(there) < len(asked):
            known = ", ".join(sorted(name[:-4] for name in os.listdir(path) if name.endswith(".rec"))) or "none"
            raise ValueError(f"data.{setting} names a part that is not there; in {path} there are {known}.")
        chosen.append([os.path.join(path, f"{part}.rec") for part in (there if asked else there[:1])])
    train, val = chosen
    if not train and not val:
        raise FileNotFoundError(missing_path_message(f"{path}/train.rec and {path}/val.rec", path))
    # What is evaluated is not trained on.
    return path, [file for file in train if file not in val], val


def _labels(path: str) -> Tuple[RecordFile, List[np.ndarray]]:
    """The records of a file and their objects, (M, 5 or more) each."""
    records = scan_records(path, most_labels=_MOST_LABELS)
    number = len(records.keys)
    text = f"reading the labels of {path}"
    return records, [_objects(records, position) for position in progress(range(number), number, text)]


def _objects(records: RecordFile, position: int) -> np.ndarray:
    where = records.where(position)
    try:
        labels = unpack(_before_image(records, position)).labels.astype(np.float64)
    except ValueError as error:
        raise ValueError(f"{where} is damaged: {error}; copy or make the file again.") from None
    inner = _of_reader(labels)
    numbers = labels if inner is None else inner
    objects = objects_of(numbers) if np.isfinite(numbers[:2]).all() else numbers[:0].reshape(0, 5)
    if not len(objects) and not _is_empty_list(numbers):
        raise ValueError(
            f"{where} has a label of {len(labels)} numbers that is no list of boxes; it begins with the numbers of its "
            "header (2) and of an object (5 or 6). For one class per image use recordio:DIR."
        )
    return objects[objects[:, 0] != _PADDING]


def _before_image(records: RecordFile, position: int) -> bytes:
    """The bytes of a record, those of its image left out where that costs nothing."""
    offset = int(records.offsets[position])
    if records.ends[position] < 0:
        return join_parts(records.content, offset)
    begin, end = offset + RECORD_HEADER, min(int(records.starts[position]), int(records.ends[position]))
    return records.content[begin:end].tobytes()


def _of_reader(labels: np.ndarray) -> Optional[np.ndarray]:
    """The list within a label as ImageDetRecordIter gives it, or None for another one."""
    if len(labels) < _READER_HEADER + 2 or labels[0] not in _CHANNELS or not np.isfinite(labels[:6]).all():
        return None
    length, header = labels[3:5]
    if header < 2 or not 2 <= length <= len(labels) - _READER_HEADER or length != int(length):
        return None
    inner, rest = np.split(labels[_READER_HEADER:], [int(length)])
    fits = (rest == _PADDING).all() and (len(objects_of(inner)) or _is_empty_list(inner))
    return inner if fits else None


def _is_empty_list(labels: np.ndarray) -> bool:
    """Whether a label is the header of a list without objects."""
    return len(labels) >= 2 and labels[0] == len(labels) and labels[1] >= 5


def _part(
    records: RecordFile, objects: Sequence[np.ndarray], num_classes: int, settings: DataSettings, bad: BadBoxes
) -> Tuple[Annotations, List[Tuple[RecordFile, int]]]:
    """The checked annotations of a file, and the places of their images."""

    def header(position: int) -> Header:
        try:
            return read_header(records.view(position))
        except ValueError as error:
            raise UnreadableImageError(records.where(position), str(error)) from None

    text = f"reading the sizes of images in {records.path}"
    sizes = image_sizes(len(objects), header, settings, text)
    annotations = (
        _annotation(records, position, rows, sizes[position], num_classes) for position, rows in enumerate(objects)
    )
    checked, kept = check_annotations(annotations, sizes, bad)
    return checked, [(records, int(position)) for position in kept]


def _annotation(records: RecordFile, position: int, rows: np.ndarray, size: np.ndarray, num_classes: int) -> Annotation:
    height, width = size.tolist() if size.all() else (1, 1)
    kinds = rows[:, 0]
    with np.errstate(invalid="ignore"):
        known = (kinds >= 0) & (kinds < num_classes) & (kinds == np.floor(kinds))
    return Annotation(
        f"{os.path.basename(records.path)}/{position}",
        records.where(position),
        None if size.all() else (height, width),
        (rows[:, 1:5] * (width, height, width, height)).tolist(),
        np.where(known, kinds, -1).astype(np.int64).tolist(),
        kinds.tolist(),
        (rows[:, 5] == 1).tolist() if rows.shape[1] > 5 else [False] * len(rows),
    )
