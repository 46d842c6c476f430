"""DetectionData: batches of images with boxes."""

from __future__ import annotations

from typing import Any, Iterator, List, Optional, Protocol, Sequence, Tuple

import mxnet as mx
import numpy as np

from ....models.preprocessing import Preprocessing
from ....runtime.pixels import to_input
from ..base import Shard
from ..settings import DetectionBatch
from ..threaded import Photos, ThreadedData
from .annotations import Annotations
from .augment import augment_scene, shown

__all__ = ["BoxedPhotos", "DetectionData"]

_LEAST_BOXES = 8  # of a batch's arrays, which then have as many as a power of two


class BoxedPhotos(Photos, Protocol):
    """Images with boxes, read one by one."""

    annotations: Annotations


class DetectionData(ThreadedData):
    """Images with boxes: the batches are `DetectionBatch`, and the rest is as of any `Data`.

    Objects that count for nothing (VOC's difficult ones, COCO's crowds) are left out of `label` and `boxes`, as in the
    usual trainings, but stand in `truths`. An image without boxes is background everywhere.

    Args:
        shard: The part of the source that this worker reads.
        train, val: The images; None where there are none.
        class_names: Without the background.
    """

    is_detection = True
    _train: BoxedPhotos
    _val: BoxedPhotos

    def __init__(
        self, shard: Shard, train: Optional[BoxedPhotos], val: Optional[BoxedPhotos], class_names: Sequence[str]
    ):
        super().__init__(shard, train, val, len(class_names), list(class_names))
        self._num_boxes = [len(photos.annotations.boxes) if photos else 0 for photos in (train, val)]

    @property
    def description(self) -> str:
        train, val = self._num_boxes
        return (
            f"{self.settings.source}: {self.num_train:,} training images with {train:,} boxes and {self.num_val:,} "
            f"evaluation images with {val:,}, {self.num_classes} classes, "
            f"{self.in_channels}x{self.image_size}x{self.image_size}, "
            f"augment {self.settings.augment}, from {self.reader}"
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """What the evaluation does to an image: all of it is resized to a square, and normalized."""
        return self.settings.preprocessing._replace(crop=1.0, crop_first=False)

    def train_batches(self, epoch: int, first_step: int = 0) -> Iterator[DetectionBatch]:  # type: ignore[override]
        """The batches of an epoch, from one of its steps on; see `Data.train_batches`."""
        return super().train_batches(epoch, first_step)  # type: ignore[return-value]

    def val_batches(self) -> Iterator[DetectionBatch]:  # type: ignore[override]
        """This worker's share of the evaluation images with their truths; see `Data.val_batches`."""
        return super().val_batches()  # type: ignore[return-value]

    def _missing_part(self, purpose: str, name: str) -> str:
        setting = "train_parts" if name == "train" else "eval_parts"
        return (
            f"{self.settings.source} has no {purpose} images.\nA folder with several parts has some, "
            f"and data.{setting} chooses among them; a single file is for evaluation alone."
        )

    def _train_row(self, index: int, image: np.ndarray, random: np.random.RandomState) -> Tuple[Any, ...]:
        truth = self._train.annotations.truth(index)
        counted = ~truth.difficult
        pixels, boxes, places = augment_scene(image, truth.boxes[counted], self.settings, random)
        return to_input(pixels, self.settings), truth.classes[counted][places], boxes

    def _val_pixels(self, image: np.ndarray) -> np.ndarray:
        return to_input(shown(image, self.settings, self.settings.eval_interpolation), self.settings)

    def _val_row(self, index: int, pixels: np.ndarray) -> Tuple[Any, ...]:
        truth = self._val.annotations.truth(index)
        counted = ~truth.difficult
        height, width = truth.size
        return pixels, truth.classes[counted], truth.boxes[counted] / (width, height, width, height), truth

    def _to_batch(self, rows: List[Tuple[Any, ...]], batch_size: int) -> DetectionBatch:  # type: ignore[override]
        images, classes, boxes, *truths = zip(*rows)
        most = max(_LEAST_BOXES, *map(len, classes))
        shape = (batch_size, 1 << (most - 1).bit_length())
        data = np.stack([*images, *[images[-1]] * (batch_size - len(rows))])
        label, corners = np.full(shape, -1, np.float32), np.full((*shape, 4), -1, np.float32)
        for place, (kinds, sides) in enumerate(zip(classes, boxes)):
            label[place, : len(kinds)], corners[place, : len(kinds)] = kinds, sides
        array = mx.ndarray.ndarray.array  # see to_batch
        return DetectionBatch(
            array(data, dtype="float32"),
            array(label, dtype="float32"),
            array(corners, dtype="float32"),
            len(rows),
            truths[0] if truths else (),
        )
