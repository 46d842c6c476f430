"""The first images of RecordIO data as data of their own: experiments with fewer images."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Dict

from ..files.write import make_folder
from ..runtime.recordio import Reader, Writer, index_beside

__all__ = ["first_images"]


def first_images(source: Path, out: Path, numbers: Dict[str, int]) -> Path:
    """Write RecordIO data with the first images of some parts into another folder; what is there is kept.

    Args:
        source: A folder with `<part>.rec`, `<part>.idx` and perhaps `classes.txt`.
        out: The folder to write.
        numbers: How many images of a part, {"train": 5000}; parts that it does not name stay whole.

    Returns:
        `out`.

    Raises:
        ValueError: A part is not there, or has fewer images.
    """
    parts = {path.stem: path for path in sorted(source.glob("*.rec"))}
    missing = numbers.keys() - parts.keys()
    if missing:
        raise ValueError(f"{source} has no {min(missing)}.rec; the first images are those of RecordIO files")
    make_folder(out)
    if (source / "classes.txt").is_file():
        shutil.copyfile(source / "classes.txt", out / "classes.txt")
    for part, path in parts.items():
        target = out / path.name
        if target.is_file() and index_beside(target).is_file():
            continue
        with Reader(path) as reader, Writer(target) as writer:
            number = numbers.get(part, len(reader))
            if number > len(reader):
                raise ValueError(f"{path} has {len(reader)} images, {number} are asked for")
            for record in itertools.islice(reader, number):
                label = record.labels if record.listed else record.label
                writer.append(record.content, label, record.key, record.id, record.id2)
    return out
