"""The RecordIO source: training through MXNet's C++ pipeline where that serves, all else by threads."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import tempfile
import weakref
from typing import Iterator

import mxnet as mx
import numpy as np

from .base import Shard
from .check import CheckedRecords, open_checked
from .decode import UnreadableImageError
from .labels import check_labels, class_names
from .records import RecordFile, find_unreadable, write_index
from .sampling import ENGINE, private_random
from .settings import EVALUATION_PARTS, Batch, DataSettings, missing_path_message
from .threaded import ThreadedData

_log = logging.getLogger("gluon_effnets")


def open_recordio(shard: Shard, path: str) -> ThreadedData:
    """``DIR/train.rec`` and ``DIR/val.rec`` (or ``test.rec``), or a ``.rec`` file for evaluation only.

    Class names come from ``classes.txt`` beside the files, else from im2rec's list beside them; without names
    ``data.classes`` or the highest label tells the number of classes.

    Raises:
        FileNotFoundError: No such file exists.
        UnreadableImageError: The check found an image that cannot be read, unless such images are skipped.
        ValueError: A file is damaged, a label is out of range, or the class names are in another order than the labels.
    """
    settings = shard.settings
    folder, checked_train, checked_val = _find_files(path, settings.num_threads)
    checked = [found for found in (checked_train, checked_val) if found]
    for found in checked:
        error = found.first_error()
        if error and settings.on_error == "raise":
            raise error
    train, val = (found and found.records for found in (checked_train, checked_val))
    files = [records for records in (train, val) if records]
    names = class_names(folder, files)
    num_classes = _count_classes(settings, names, files)
    if train and shard.rank == 0:
        check_labels(train, val, num_classes, names)
    if train and checked_train and _reader_serves(settings, len(train.labels), shard.world):
        foreign = _first_foreign(checked_train, settings)
        if foreign is None:
            return RecordData(shard, train, val, num_classes, names)
        if shard.rank == 0:
            _log.warning(
                "%s is no JPEG or PNG that MXNet's reader surely reads as evaluation does: threads read %s",
                train.where(foreign),
                train.path,
            )
    return ThreadedData(shard, train, val, num_classes, names)


class RecordData(ThreadedData):
    """Trains from `mx.io.ImageRecordIter`, evaluates with threads, which give the same pixels.

    MXNet gives every worker a contiguous part of the file. Here the parts go round: each worker reads another one in
    every epoch, in a new order. Each epoch gets a fresh reader, since the order of a reused one depends on how often
    it was read. Evaluation stays away from MXNet's reader, where a damaged image under ``resize`` divides by zero and
    ends the process.
    """

    reader = "MXNet's reader"

    def __init__(
        self,
        shard: Shard,
        train: RecordFile,
        val: RecordFile | None,
        num_classes: int,
        class_names: list[str] | None,
    ):
        super().__init__(shard, train, val, num_classes, class_names)
        self._records = train
        if train.index_path is None:
            folder = tempfile.mkdtemp(prefix="gluon_effnets-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            index_path = os.path.join(folder, "rebuilt.idx")
            self._records = train._replace(index_path=index_path)
            write_index(train, index_path)
            _log.warning("%s has no .idx beside it; it was rebuilt for this run", train.path)

    def _train_batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        batches = self._read_epoch(epoch)
        # The reader cannot jump: steps before `first_step` are decoded and dropped.
        for batch in itertools.islice(batches, first_step, self.steps_per_epoch):
            # The copies leave the reader's buffers, which it fills again, behind.
            data, label = batch.data[0], batch.label[0].astype("int32")
            data = data.flip(axis=1) if self.settings.channel_order == "bgr" else data.copy()
            data.wait_to_read()
            label.wait_to_read()
            yield Batch(data, label, self.settings.batch_size)

    def _read_epoch(self, epoch: int) -> Iterator[mx.io.DataBatch]:
        """This worker's part, once; an error about a damaged image becomes one that names the record."""
        records, settings = self._records, self.settings
        part = (self.rank + epoch) % self.world
        try:
            yield from mx.io.ImageRecordIter(
                path_imgrec=records.path,
                path_imgidx=records.index_path,
                data_shape=(3, self.image_size, self.image_size),
                batch_size=settings.batch_size,
                preprocess_threads=settings.num_threads,
                num_parts=self.world,
                part_index=part,
                shuffle=True,
                seed=int(private_random(ENGINE, self.seed, epoch).randint(1 << 31)),
                seed_aug=int(private_random(ENGINE, self.seed, epoch, self.rank).randint(1 << 31)),
                device_id=-1,
                verbose=False,
                **_augment_options(settings),
            )
        except mx.base.MXNetError as error:
            positions = np.arange(*_part(self.num_train, part, self.world))
            culprit = find_unreadable(records, positions, settings.num_threads) or _unreadable_in_mxnet(
                records, positions
            )
            raise culprit or ValueError(
                f"MXNet's reader failed on {records.path}: {str(error).splitlines()[-1]}"
            ) from error


def _find_files(path: str, num_threads: int) -> tuple[str, CheckedRecords | None, CheckedRecords | None]:
    """The folder, the training and the evaluation records."""
    if path.endswith(".rec"):
        return os.path.dirname(path), None, open_checked(path, num_threads)
    there = [part for part in ("train", *EVALUATION_PARTS) if os.path.exists(os.path.join(path, f"{part}.rec"))]
    if not there:
        folders = [part for part in ("train", *EVALUATION_PARTS) if os.path.isdir(os.path.join(path, part))]
        if folders:
            raise FileNotFoundError(
                f"no data at {path}/train.rec and {path}/val.rec, but the folder {path}/{folders[0]} is there: write "
                f"folder:{path}, or make RecordIO files of it in another folder."
            )
        looked_at = f"{path}/train.rec and {path}/val.rec" if os.path.isdir(path) else path
        raise FileNotFoundError(missing_path_message(looked_at, path))
    train, evaluation = (next(iter(part for part in there if (part == "train") == wanted), None) for wanted in (1, 0))
    opened = [open_checked(os.path.join(path, f"{part}.rec"), num_threads) if part else None
              for part in (train, evaluation)]  # fmt: skip
    return path, opened[0], opened[1]


def _first_foreign(checked: CheckedRecords, settings: DataSettings) -> int | None:
    """The first record that MXNet's reader may read otherwise, or of which it may cut a window without a pixel."""
    area, narrowest = settings.crop_area[0], min(settings.crop_aspect[0], 1 / settings.crop_aspect[1])
    cut = checked.sizes.astype(np.int64).prod(axis=1) * area * narrowest
    foreign = ~checked.for_mxnet | (cut < 1)
    return int(np.argmax(foreign)) if foreign.any() else None


def _unreadable_in_mxnet(records: RecordFile, positions: np.ndarray) -> UnreadableImageError | None:
    """The error about the first record that MXNet's own decoder refuses, or None."""
    for position in positions:
        try:
            mx.image.imdecode(records.encoded(position))
        except mx.base.MXNetError:
            return UnreadableImageError(records.where(position), "is no image that MXNet's reader reads")
    return None


def _count_classes(settings: DataSettings, names: list[str] | None, files: list[RecordFile]) -> int:
    num_classes = len(names) if names else settings.classes
    if num_classes is None:
        return int(max(records.labels.max() for records in files)) + 1
    for records in files:
        outside = np.flatnonzero(records.labels >= num_classes)
        if len(outside):
            stated = "classes.txt" if names else "data.classes"
            hint = " Labels count from 0." if all(found.labels.min() > 0 for found in files) else ""
            raise ValueError(
                f"{records.where(outside[0])} has label {records.labels[outside[0]]}, but {stated} names "
                f"{num_classes} classes (labels 0..{num_classes - 1}).{hint}"
            )
    return num_classes


def _part(num_records: int, part: int, world: int) -> tuple[int, int]:
    """First and last + 1 record of one of `world` parts, as MXNet's reader cuts the file."""
    step = -(-num_records // world)
    return min(part * step, num_records), min((part + 1) * step, num_records)


def _reader_serves(settings: DataSettings, num_train: int, world: int) -> bool:
    """Whether MXNet's reader can keep the promises of `Data`; threads keep them in every case.

    It cannot go on after an unreadable image, nor survive one together with ``resize``, which every
    augmentation but ``imagenet`` needs; it knows neither RandAugment, erasing nor Pillow's filters. The last part, the
    smallest, may hold too few images for the steps.
    """
    first, last = _part(num_train, world - 1, world)
    needed = num_train // (settings.batch_size * world) * settings.batch_size
    plain = settings.interpolation == "bilinear" and not (settings.rand_augment or settings.random_erasing)
    return settings.on_error == "raise" and settings.augment == "imagenet" and plain and last - first >= needed


def _augment_options(settings: DataSettings) -> dict[str, object]:
    """``imagenet`` and the normalisation, as MXNet's reader spells them."""
    normalise = {
        f"{name}_{channel}": value
        for name, values in (("mean", settings.mean), ("std", settings.std))
        for channel, value in zip("rgb", values)
    }
    return {
        **normalise,
        "random_resized_crop": True,
        "min_random_area": settings.crop_area[0],
        "max_random_area": settings.crop_area[1],
        "min_aspect_ratio": settings.crop_aspect[0],
        "max_aspect_ratio": settings.crop_aspect[1],
        "rand_mirror": settings.mirror,
        "brightness": settings.color_jitter,
        "contrast": settings.color_jitter,
        "saturation": settings.color_jitter,
        "pca_noise": settings.pca_noise,
    }
