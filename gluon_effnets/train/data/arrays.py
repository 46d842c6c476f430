"""Sources held in memory as uint8 arrays: handwritten digits, CIFAR-10, and synthetic images."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Iterator, NamedTuple, Tuple

import mxnet as mx
import numpy as np

from ..._requirements import optional_import
from ...files.regular import opened
from ...files.text import shown
from ...models.preprocessing import Preprocessing
from ...runtime.pixels import to_input
from . import augment as aug
from .base import Data, Shard, to_batch
from .labels import read_class_names
from .records import RecordFile, read_images, scan_records
from .sampling import AUGMENT, KEPT_BACK, epoch_order, private_random, step_positions, val_share
from .settings import PLAIN, Batch, DataSettings, missing_path_message

# Mean and standard deviation of the digits of the training part, resized to 32 pixels, on the scale 0..255.
DIGITS_MEAN, DIGITS_STD = (77.9,), (82.5,)
_DIGITS_HELD_OUT = 0.2
_CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_SYNTHETIC_IMAGES, _SYNTHETIC_CLASSES, _SYNTHETIC_CELLS, _SYNTHETIC_NOISE = 64, 10, 4, 24


class ImageArray(NamedTuple):
    """Images (n, h, w, c) uint8 and their class indices (n,) int32."""

    images: np.ndarray
    labels: np.ndarray


class ArrayData(Data):
    """Batches from arrays in memory; images keep their own size until they leave as a batch of `image_size`.

    Evaluation resizes to `image_size` without a crop: these images show their object in full.
    """

    reader = "memory"

    def __init__(
        self,
        shard: Shard,
        train: ImageArray,
        val: ImageArray,
        num_classes: int,
        class_names: list[str] | None = None,
    ):
        train, self._kept_back = _divided(train, shard.settings)
        sizes = (len(train.labels), len(val.labels))
        super().__init__(shard, num_classes, *sizes, class_names, in_channels=train.images.shape[3])
        self._train, self._val = train, val

    def _train_batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        size = self.settings.batch_size
        order = epoch_order(self.num_train, self.seed, epoch)
        for step in range(first_step, self.steps_per_epoch):
            chosen = order[step_positions(step, size, self.rank, self.world)]
            random = private_random(AUGMENT, self.seed, epoch, step, self.rank)
            yield self._train_batch(self._train, chosen, random)

    def _train_batch(self, images: ImageArray, chosen: np.ndarray, random: np.random.RandomState) -> Batch:
        pixels = self._pixels(self._augment(images.images[chosen], random), self._train_interpolation)
        for image in pixels:
            aug.erase(image, self.settings, random)
        return to_batch(pixels, images.labels[chosen], self.settings.batch_size)

    def kept_back_batch(self, number: int) -> Batch:
        kept, size = len(self._kept_back.labels), self.settings.batch_size
        if not kept:
            return super().kept_back_batch(number)
        if kept < size:
            raise ValueError(
                f"data.kept_back keeps {kept} images of {self.settings.source} back, fewer than a batch, {size}."
            )
        random = private_random(KEPT_BACK, self.seed, number, self.rank)
        return self._train_batch(self._kept_back, random.choice(kept, size, replace=False), random)

    def _val_batches(self) -> Iterator[Batch]:
        share = val_share(self.num_val, self.rank, self.world)
        for start in range(0, len(share), self.eval_batch_size):
            chosen = share[start : start + self.eval_batch_size]
            pixels = self._pixels(self._val.images[chosen], self.settings.eval_interpolation)
            yield to_batch(pixels, self._val.labels[chosen], self.eval_batch_size)

    def _augment(self, images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        settings = self.settings
        if settings.augment == "imagenet":
            return np.stack([aug.augment_imagenet(image, settings, random) for image in images])
        if settings.augment in PLAIN:
            return images
        return aug.augment_small(images, settings, random)

    @property
    def preprocessing(self) -> Preprocessing:
        return self.settings.preprocessing._replace(crop=1.0)

    @property
    def _train_interpolation(self) -> str:
        return self.settings.eval_interpolation if self.settings.augment == "evaluation" else "bilinear"

    def _pixels(self, images: np.ndarray, interpolation: str) -> np.ndarray:
        side = self.image_size
        if images.shape[1:3] != (side, side):
            images = np.stack([aug.resize(image, side, side, interpolation) for image in images])
        return to_input(images, self.settings)


def _divided(train: ImageArray, settings: DataSettings) -> Tuple[ImageArray, ImageArray]:
    """The images to train with, and those that are kept back from it, both in the order of the source."""
    number = len(train.labels)
    kept = np.zeros(number, bool)
    shuffled = private_random(KEPT_BACK, settings.kept_back_seed).permutation(number)
    kept[shuffled[: round(settings.kept_back * number)]] = True
    if not kept.any():
        return train, ImageArray(train.images[:0], train.labels[:0])
    used, others = (ImageArray(train.images[part], train.labels[part]) for part in (~kept, kept))
    return used, others


def held_out_digits(labels: np.ndarray) -> np.ndarray:
    """Which of the digits are for evaluation, (n,) bool: the same for every seed, so that results of runs compare."""
    random = np.random.RandomState(0)
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        held_out[random.permutation(members)[: round(_DIGITS_HELD_OUT * len(members))]] = True
    return held_out


def open_digits(shard: Shard) -> ArrayData:
    """scikit-learn's 1,797 handwritten digits (8x8 grey) at `image_size`; 20 % of each class are held out.

    A mirrored or strongly cropped digit is another digit, so ``imagenet`` and ``small`` become ``shift``;
    mean and std for three channels are replaced by the digits' own.
    """
    datasets = optional_import("sklearn.datasets", extra="train", why="load the handwritten digits")
    cv2, settings = aug.cv2_module(), shard.settings
    bunch = datasets.load_digits()
    side = (settings.image_size, settings.image_size)
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = np.stack([cv2.resize(image, side, interpolation=cv2.INTER_LINEAR) for image in grey])[..., None]
    labels = bunch.target.astype(np.int32)
    held_out = held_out_digits(labels)
    if len(settings.mean) != 1:
        settings = replace(settings, mean=DIGITS_MEAN, std=DIGITS_STD)
    if settings.augment not in PLAIN:
        settings = replace(settings, augment="shift")
    settings = replace(settings, eval_interpolation="bilinear")  # as they have just been resized
    train, val = (ImageArray(images[part], labels[part]) for part in (~held_out, held_out))
    return ArrayData(replace(shard, settings=settings), train, val, 10, [str(digit) for digit in range(10)])


class _Cifar10Binary(mx.gluon.data.vision.CIFAR10):
    """Gluon's reader of the binary batches, held back from downloading or unpacking anything."""

    def _get_data(self):
        names = [name for name, _ in (self._train_data if self._train else self._test_data)]
        images, labels = zip(*(self._read_batch(os.path.join(self._root, name)) for name in names))
        self._data, self._label = np.concatenate(images), np.concatenate(labels)


def _cifar10_binary(folder: str, train: bool) -> ImageArray:
    for name in os.listdir(folder):
        if name.endswith(".bin"):
            with opened(os.path.join(folder, name), "batch", 1 << 26):
                pass
    try:
        dataset = _Cifar10Binary(folder, train=train)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"cifar10 needs train.rec and test.rec, or the six binary batches; {error.filename} is missing."
        ) from error
    except ValueError as error:
        raise ValueError(f"{folder} holds a binary CIFAR-10 batch of the wrong size; copy it again.") from error
    return ImageArray(dataset._data, dataset._label)


def _cifar10_records(records: RecordFile, settings: DataSettings) -> ImageArray:
    images, kept = read_images(records, settings.num_threads, settings.on_error)
    shapes = {image.shape for image in images}
    if shapes != {(32, 32, 3)}:
        raise ValueError(f"{records.path} holds images of other sizes than 32x32; use recordio:DIR for it.")
    return ImageArray(np.stack(images), records.labels[kept])


def open_cifar10(shard: Shard, folder: str) -> ArrayData:
    """CIFAR-10 from ``train.rec`` and ``test.rec`` or from the original binary batches, wholly in memory."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(missing_path_message(folder, folder))
    names = read_class_names(folder) or _CIFAR10_NAMES
    paths = [os.path.join(folder, name) for name in ("train.rec", "test.rec")]
    if any(os.path.exists(path) for path in paths):
        train, val = (_cifar10_records(records, shard.settings) for records in [scan_records(path) for path in paths])
    else:
        train, val = (_cifar10_binary(folder, train=part) for part in (True, False))
    highest = int(max(train.labels.max(), val.labels.max()))
    if highest >= len(names):
        raise ValueError(f"{folder} holds class index {highest}, but only {len(names)} class names.")
    return ArrayData(shard, train, val, len(names), names)


def open_synthetic(shard: Shard, argument: str) -> ArrayData:
    """Images with one coarse random colour pattern per class under noise: learnable, equal for every seed."""
    if argument and not (argument.isdecimal() and len(argument) <= 7 and int(argument)):
        raise ValueError(f"synthetic:{shown(argument)} is not understood; write synthetic:N, N the number of images.")
    num_images = int(argument or _SYNTHETIC_IMAGES)
    num_classes = shard.settings.classes or _SYNTHETIC_CLASSES
    random = np.random.RandomState(0)
    shape = (num_classes, _SYNTHETIC_CELLS, _SYNTHETIC_CELLS, 3)
    cells = random.randint(32, 224, size=shape, dtype=np.int16)
    side = shard.settings.image_size
    where = np.arange(side) * _SYNTHETIC_CELLS // side
    patterns = cells[:, where][:, :, where]

    def draw(num: int) -> ImageArray:
        labels = np.arange(num, dtype=np.int32) % num_classes
        shape = (num, *patterns.shape[1:])
        noise = random.randint(-_SYNTHETIC_NOISE, _SYNTHETIC_NOISE + 1, size=shape, dtype=np.int16)
        return ImageArray((patterns[labels] + noise).astype(np.uint8), labels)

    train = draw(num_images)
    return ArrayData(shard, train, draw(max(num_images // 4, 1)), num_classes)
