"""The contract every source of images keeps towards the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Optional

import mxnet as mx
import numpy as np

from ...models.preprocessing import Preprocessing
from .settings import Batch, DataSettings


@dataclass(frozen=True)
class Shard:
    """The part of a source that one worker reads.

    Args:
        settings: The data section of a recipe.
        seed: Of the order of the images and of their augmentation.
        rank: Number of the worker, from 0.
        world: Number of all workers.

    Raises:
        ValueError: There is no such worker.
    """

    settings: DataSettings
    seed: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank is {self.rank}; it must be in 0..{self.world - 1} (world {self.world}).")


class Data:
    """Training and evaluation batches of one worker.

    Args:
        shard: What of the data this worker reads, and how.
        num_classes: Number of classes.
        num_train, num_val: Images of all workers.
        class_names: Names of the classes, or None.
        in_channels: Channels of the images.

    Attributes:
        settings: DataSettings.
        seed, rank, world: Of the shard.
        num_classes, in_channels, image_size: Of the images, in pixels.
        num_train, num_val: Images of all workers; 0 where the source has no such part.
        class_names: Texts, or None.
        description: One line for the log.
        reader: What reads the training images: "memory", "threads" or "MXNet's reader".
        held_out: Of class folders that were divided here: the images of the evaluation, by their paths in the folder.
        is_detection: Whether the batches are `DetectionBatch`es: images with boxes.
    """

    reader: str
    held_out: Optional[List[str]] = None
    is_detection = False

    def __init__(
        self,
        shard: Shard,
        num_classes: int,
        num_train: int,
        num_val: int,
        class_names: list[str] | None = None,
        in_channels: int = 3,
    ):
        settings = shard.settings
        if settings.classes not in (None, num_classes):
            raise ValueError(
                f"data.classes is {settings.classes}, but {settings.source} has {num_classes} classes.\n"
                "Leave data.classes out to take the number from the data."
            )
        if len(settings.mean) != in_channels:
            raise ValueError(
                f"data.mean and data.std have {len(settings.mean)} entries; images of {settings.source} have "
                f"{in_channels} channel(s)."
            )
        self.settings, self.seed, self.rank, self.world = settings, shard.seed, shard.rank, shard.world
        self.num_classes, self.num_train, self.num_val = num_classes, num_train, num_val
        self.class_names, self.in_channels, self.image_size = class_names, in_channels, settings.image_size
        self.eval_batch_size = settings.eval_batch_size or settings.batch_size

    @property
    def description(self) -> str:
        """What is read, in one line."""
        return (
            f"{self.settings.source}: {self.num_train:,} training and {self.num_val:,} evaluation images, "
            f"{self.num_classes} classes, {self.in_channels}x{self.image_size}x{self.image_size}, "
            f"augment {self.settings.augment}, from {self.reader}"
        )

    @property
    def num_replaced(self) -> int:
        """How many training images of this worker in this epoch were unreadable, and replaced by others."""
        return 0

    @property
    def preprocessing(self) -> Preprocessing:
        """What the evaluation does to an image."""
        return self.settings.preprocessing

    def check_purpose(self, detects: bool, network: str) -> None:
        """Refuse a network that these batches are not for.

        Args:
            detects: Whether the network finds boxes, or else a class for an image.
            network: Its name.

        Raises:
            ValueError: With the kinds of data that serve.
        """
        if detects == self.is_detection:
            return
        if detects:
            raise ValueError(
                f"{network} is a detector, but {self.settings.source} has images without boxes: take voc:DIR, "
                "coco:DIR, detrec:DIR or scattered_digits, or a network that classifies."
            )
        raise ValueError(
            f"{network} classifies images, but {self.settings.source} has images with boxes: take folder:DIR, "
            "recordio:DIR, cifar10:DIR or digits, or a detector."
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch, equal on every worker; 0 where there is nothing to train on.

        Raises:
            ValueError: The training set is smaller than one global batch.
        """
        global_batch = self.settings.batch_size * self.world
        if 0 < self.num_train < global_batch:
            raise ValueError(
                f"{self.settings.source} has {self.num_train} training images, fewer than one global batch "
                f"({self.settings.batch_size} x {self.world} workers).\nSet data.batch_size to at most "
                f"{max(1, self.num_train // self.world)}."
            )
        return self.num_train // global_batch

    def train_batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from one of its steps on.

        What step s holds depends on (seed, epoch, s, rank, world) alone, so an epoch resumed in its middle
        goes on with bit-identical batches. Over the workers the images of one epoch are disjoint,
        and complete up to the remainder that does not fill a global batch.

        Args:
            epoch: Number of the epoch, from 0.
            first_step: Batches to pass over.

        Raises:
            ValueError: There is nothing to train on, or `first_step` lies outside the epoch.
        """
        if not self.num_train:
            raise ValueError(self._missing_part("training", "train"))
        if not 0 <= first_step <= self.steps_per_epoch:
            raise ValueError(f"first_step is {first_step}; an epoch has {self.steps_per_epoch} steps.")
        return self._train_batches(epoch, first_step)

    def kept_back_batch(self, number: int) -> Batch:
        """A batch of the images that `kept_back` keeps from training, augmented as these.

        It is drawn anew, without an image twice, and depends on (seed, number, rank) alone.

        Args:
            number: Of the batch, for instance of the update that it is for.

        Raises:
            ValueError: No images, or fewer than a batch, are kept back.
        """
        raise ValueError(f"{self.settings.source} keeps no images back: set data.kept_back, for instance to 0.5.")

    def val_batches(self) -> Iterator[Batch]:
        """This worker's share of the evaluation images, in fixed order; all workers see each image once.

        Raises:
            ValueError: There is nothing to evaluate on.
        """
        if not self.num_val:
            raise ValueError(self._missing_part("evaluation", "val"))
        return self._val_batches()

    def val_where(self, place: int) -> str:
        """What messages call the evaluation image at a place in the order of `val_batches` of a single worker."""
        return f"image {place + 1} of {self.num_val:,}"

    def _missing_part(self, purpose: str, name: str) -> str:
        """What a user reads who asks for images that the source has not."""
        return (
            f"{self.settings.source} has no {purpose} images.\n"
            f"They are looked for in DIR/{name}.rec (recordio:DIR) or DIR/{name}/CLASS/ (folder:DIR)."
        )

    def _train_batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        raise NotImplementedError

    def _val_batches(self) -> Iterator[Batch]:
        raise NotImplementedError


def to_batch(images: np.ndarray, labels: np.ndarray, batch_size: int) -> Batch:
    """Makes a batch of `batch_size` rows, repeating the last image where there are fewer."""
    missing = batch_size - len(images)
    if missing:
        images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        labels = np.concatenate([labels, np.repeat(labels[-1:], missing)])
    # mx.nd.array does the same after a look at SciPy's sparse types that warns each time.
    array = mx.ndarray.ndarray.array
    return Batch(array(images, dtype="float32"), array(labels, dtype="int32"), batch_size - missing)
