"""Photos of any size, decoded and augmented in Python threads: bit-identical for every number of threads."""

from __future__ import annotations

import contextlib
import itertools
import logging
from typing import Any, Callable, Dict, Generator, Iterator, List, Protocol, Tuple

import numpy as np

from ...runtime.pixels import to_input
from . import augment as aug
from .base import Data, Shard, to_batch
from .decode import UnreadableImageError, named, ordered_map
from .sampling import AUGMENT, SUBSTITUTE, epoch_order, private_random, step_positions, val_share
from .settings import Batch

_SUBSTITUTES = 20
# The unreadable images of a pass, by their numbers.
Skipped = Dict[int, UnreadableImageError]
_log = logging.getLogger("gluon_effnets")


class Photos(Protocol):
    """Images read one by one."""

    @property
    def labels(self) -> Any:
        """Of every image: its class index, shape (n,), int32; with boxes: an array of their classes."""

    def read(self, position: int) -> np.ndarray:
        """One decoded image, (h, w, 3) uint8 RGB; raises UnreadableImageError."""

    def where(self, position: int) -> str:
        """How messages name an image."""


class NoPhotos:
    """The part that a source has not."""

    labels = np.empty(0, np.int32)

    def read(self, position: int) -> np.ndarray:
        raise IndexError(position)

    def where(self, position: int) -> str:
        raise IndexError(position)


class ThreadedData(Data):
    """Batches from `Photos`; any step of an epoch can be reached without decoding the ones before."""

    reader = "threads"

    def __init__(
        self,
        shard: Shard,
        train: Photos | None,
        val: Photos | None,
        num_classes: int,
        class_names: list[str] | None = None,
    ):
        self._skipped: Skipped = {}
        self._train: Photos = NoPhotos() if train is None else train
        self._val: Photos = NoPhotos() if val is None else val
        super().__init__(shard, num_classes, len(self._train.labels), len(self._val.labels), class_names)

    @property
    def num_replaced(self) -> int:
        return len(self._skipped)

    def val_where(self, place: int) -> str:
        return self._val.where(place)

    def _train_batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        order = epoch_order(self.num_train, self.seed, epoch)
        size = self.settings.batch_size
        skipped = self._skipped = {}

        def load(position: int):
            index, image = self._readable(order[position], position, epoch, skipped)
            return self._train_row(index, image, private_random(AUGMENT, self.seed, epoch, position))

        steps = range(first_step, self.steps_per_epoch)
        positions = itertools.chain.from_iterable(step_positions(step, size, self.rank, self.world) for step in steps)
        with contextlib.closing(self._collect(load, positions, size)) as batches, contextlib.ExitStack() as at_end:
            at_end.callback(_report, skipped, f"epoch {epoch}: %d unreadable training image(s) replaced by others: %s")
            for step in steps:
                batch = next(batches)
                if step == steps[-1]:
                    # Whoever takes the last batch may never ask for one more.
                    at_end.close()
                yield batch

    def _val_batches(self) -> Iterator[Batch]:
        settings = self.settings
        skipped: Skipped = {}

        def load(index: int):
            try:
                pixels = self._val_pixels(self._val.read(index))
            except UnreadableImageError as error:
                if settings.on_error == "raise":
                    raise
                skipped[int(index)] = error
                # Left out, it would flatter the accuracy; a blank image counts as not recognised.
                pixels = np.zeros((self.in_channels, self.image_size, self.image_size), np.float32)
            return self._val_row(index, pixels)

        share = val_share(self.num_val, self.rank, self.world)
        yield from self._collect(load, share, self.eval_batch_size)
        _report(skipped, "evaluation: %d unreadable image(s) taken as blank: %s")

    def _collect(self, load: Callable, items, batch_size: int) -> Generator[Batch, None, None]:
        threads = self.settings.num_threads
        loaded = ordered_map(load, items, threads, ahead=2 * batch_size + threads)
        try:
            while True:
                rows = list(itertools.islice(loaded, batch_size))
                if not rows:
                    return
                yield self._to_batch(rows, batch_size)
        finally:
            loaded.close()

    def _train_row(self, index: int, image: np.ndarray, random: np.random.RandomState) -> Tuple[Any, ...]:
        """What a training batch holds of one decoded image."""
        pixels = to_input(aug.augment_photo(image, self.settings, random), self.settings)
        aug.erase(pixels, self.settings, random)
        return pixels, self._train.labels[index]

    def _val_pixels(self, image: np.ndarray) -> np.ndarray:
        """What an evaluation shows of one decoded image."""
        return to_input(aug.evaluation_crop(image, self.settings), self.settings)

    def _val_row(self, index: int, pixels: np.ndarray) -> Tuple[Any, ...]:
        """What an evaluation batch holds of one image."""
        return pixels, self._val.labels[index]

    def _to_batch(self, rows: List[Tuple[Any, ...]], batch_size: int) -> Batch:
        """A batch of rows, which are all of the same kind."""
        pixels, labels = zip(*rows)
        return to_batch(np.stack(pixels), np.array(labels, np.int32), batch_size)

    def _readable(self, index: int, position: int, epoch: int, skipped: Skipped) -> tuple[int, np.ndarray]:
        """(index, image) of the image asked for, or with on_error=skip of another if it is unreadable."""
        try:
            return index, self._train.read(index)
        except UnreadableImageError as error:
            if self.settings.on_error == "raise":
                raise
            skipped[int(index)] = error
        random = private_random(SUBSTITUTE, self.seed, epoch, position)
        for candidate in random.randint(self.num_train, size=_SUBSTITUTES):
            try:
                return candidate, self._train.read(candidate)
            except UnreadableImageError as error:
                skipped[int(candidate)] = error
        raise ValueError(
            f"{self.settings.source}: {_SUBSTITUTES} images drawn one after another are unreadable, "
            f"e.g. {skipped[int(candidate)].where}."
        )


def _report(skipped: Skipped, text: str) -> None:
    if skipped:
        _log.warning(text, len(skipped), named(skipped[index] for index in sorted(skipped)))
