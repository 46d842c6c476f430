"""Image files with boxes."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ..decode import decode_image, read_image_file
from .annotations import Annotations

__all__ = ["FilePhotos"]


class FilePhotos:
    """Image files and what is on them.

    Args:
        annotations: Of the images.
        paths: Of their files, in the same order.

    Attributes:
        annotations: The argument.
        labels: Of every image an array with the classes of its boxes.
    """

    def __init__(self, annotations: Annotations, paths: Sequence[str]):
        self.annotations, self._paths = annotations, list(paths)
        self.labels = annotations.labels

    def read(self, position: int) -> np.ndarray:
        """One decoded image, (h, w, 3) uint8 RGB."""
        path = self._paths[position]
        return decode_image(read_image_file(path), path)

    def where(self, position: int) -> str:
        """How messages name an image: its path."""
        return self._paths[position]
