"""OfExport: what exported classifiers and detectors have in common when they run without MXNet."""

from __future__ import annotations

import itertools
from typing import Any, Callable, Generic, Iterable, Iterator, List, Optional, Tuple, TypeVar

import numpy as np

from .decode import numbered
from .facts import Facts
from .preprocessing import Preprocessing

__all__ = ["OfExport"]

_Shown = TypeVar("_Shown")


class OfExport(Generic[_Shown]):
    """An exported network. It has no state, and several threads may use it at the same time.

    Attributes:
        facts: What the export says of the network.

    Args:
        facts: As above.
        run: Images (n, channels, H, W) -> the network's answers.
        where: The file that it comes from, for error texts.
    """

    def __init__(self, facts: Facts, run: Callable[[np.ndarray], Any], where):
        self.facts, self._run, self._where = facts, run, where

    @property
    def names(self) -> Optional[Tuple[str, ...]]:
        """Of the classes, or None."""
        return self.facts.names

    @property
    def num_classes(self) -> int:
        """Of a detector, without the background."""
        return self.facts.num_classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to an image; a detector's is not cropped, but resized to `image_size` in both directions."""
        return self.facts.preprocessing

    def _shown(self, image: Any, where: str) -> _Shown:
        """What the network is shown of an image."""
        raise NotImplementedError

    def _batches(self, images: Any, batch: int) -> Iterator[List[_Shown]]:
        """What it is shown of one or several images, at most `batch` at a time; no more are decoded."""
        if batch < 1:
            raise ValueError(f"the number of images in a batch is {batch}; it must be at least 1")
        shown: Iterable[_Shown] = (self._shown(*one) for one in numbered(images))
        waiting = iter(shown)
        return iter(lambda: list(itertools.islice(waiting, batch)), [])

    def _answers(self, inputs: np.ndarray, damaged: str) -> Any:
        """The answers to inputs (n, channels, H, W).

        Raises:
            ValueError: The inputs have another shape, or the network cannot be run, since it is `damaged`.
        """
        inputs = np.ascontiguousarray(inputs, np.float32)
        size, channels = self.preprocessing.image_size, len(self.preprocessing.mean)
        if inputs.ndim != 4 or inputs.shape[1:] != (channels, size, size) or not len(inputs):
            raise ValueError(f"{self._where} takes an array (n, {channels}, {size}, {size}), not {inputs.shape}")
        try:
            return self._run(inputs)
        except Exception as error:  # of ONNX Runtime, which has no common class, and of routes that do not fit
            raise ValueError(f"{self._where}: ONNX Runtime cannot run this network; {damaged}") from error
