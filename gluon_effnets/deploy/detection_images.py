"""Images to calibrate a detector in 8 bits with, as it is shown them: of folders and RecordIO files of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, List

import numpy as np

from ..files.text import shortened
from ..models.card import complete_preprocessing
from ..runtime.decode import pixels_of
from ..runtime.image_files import SUFFIXES, PassedOver, images_below
from ..runtime.pixels import resized, to_input
from ..runtime.recordio import Reader

__all__ = ["detection_images"]


def detection_images(net, source: str, number: int) -> np.ndarray:
    """Return images (n, in_channels, side, side) as a detector wants them, spread evenly over those that there are.

    Args:
        net: The detector.
        source: A folder with images in it or below, or a RecordIO file; perhaps with a kind of data and a colon before.
        number: How many, at most.

    Raises:
        FileNotFoundError: There are no images.
        ValueError: `number` is below 1.
        OSError: An image cannot be read.
    """
    if number < 1:
        raise ValueError(f"the number of images is {number}; it must be at least 1")
    kind, colon, rest = source.partition(":")
    path = Path(rest if colon and not Path(source).exists() else source).expanduser()
    found = _records(path, number) if path.suffix == ".rec" else _files(path, number)
    shown = [_shown(net, image) for image in found]
    if not shown:
        raise FileNotFoundError(f"no images in {shortened(source)} (looked for {', '.join(SUFFIXES)} and .rec)")
    return np.stack(shown)


def _spread(items: List[Any], number: int) -> List[Any]:
    return [items[place] for place in np.unique(np.linspace(0, len(items) - 1, number).astype(int))] if items else []


def _files(path: Path, number: int) -> List[Path]:
    return _spread(images_below([str(path)], PassedOver()), number) if path.is_dir() else []


def _records(path: Path, number: int) -> Iterator[bytes]:
    with Reader(path) as records:
        wanted = set(_spread(list(range(sum(1 for _ in records))), number))
    with Reader(path) as records:
        for place, record in enumerate(records):
            if place in wanted:
                yield record.content


def _shown(net, image) -> np.ndarray:
    wanted = complete_preprocessing(net)
    assert wanted.interpolation is not None, "a complete preprocessing has one"
    return to_input(resized(pixels_of(image), net.image_size, wanted.interpolation), wanted)
