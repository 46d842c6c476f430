"""RecordIO files of a folder with a folder of images per class."""

from __future__ import annotations

import random
from pathlib import Path
from typing import List, NamedTuple, Optional

from .files import read_bytes
from .header import read_header
from .image_files import PassedOver, class_images
from .recordio import Writer

__all__ = ["Packed", "pack_folder"]


class Packed(NamedTuple):
    """What was packed.

    Attributes:
        records: Number of images in the file.
        names: Of the classes; the label of an image is a place in them.
        left_out: Texts about the image files that cannot be read.
    """

    records: int
    names: List[str]
    left_out: List[str]


def pack_folder(folder, target, shuffle: Optional[int] = None) -> Packed:
    """Write the images of FOLDER/CLASS/* as they are into a file of records, and the names of the classes beside it.

    Classes have the numbers of their names in sorted order, as with im2rec and with training on folders.

    Args:
        folder: With a folder per class.
        target: The new .rec file; `classes.txt` beside it gets the names.
        shuffle: Seed of the order of the images; None: as they are sorted.

    Raises:
        FileNotFoundError: There is no such folder.
        FileExistsError: The new file is there already.
        ValueError: A class has no images, there are no classes, or other ones stand in `classes.txt`.
    """
    root, target = Path(folder).expanduser(), Path(target).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {folder}")
    passed_over = PassedOver()
    classes = class_images(str(root), passed_over)
    names = sorted(classes)
    if not names:
        raise ValueError(f"{folder} holds no class folders; images must lie in {folder}/CLASS/")
    empty = [name for name in names if not classes[name]]
    if empty:
        raise ValueError(f"{root / empty[0]} holds no image; add images or remove the folder")
    listing = target.with_name("classes.txt")
    text = "".join(f"{name}\n" for name in names)
    if listing.exists() and read_bytes(listing, "class names") != text.encode("utf-8"):
        raise ValueError(f"{listing} names other classes than {folder} has folders; pack into another folder")
    passed_over.report(folder)
    images = [(path, label) for label, name in enumerate(names) for path in classes[name]]
    if shuffle is not None:
        random.Random(shuffle).shuffle(images)
    left_out = []
    with Writer(target) as writer:
        for path, label in images:
            try:
                content = read_bytes(path, "image")
                read_header(content)
            except (OSError, ValueError) as error:
                text_of = str(error)
                left_out.append(text_of if str(path) in text_of else f"{path} {text_of}")
                continue
            writer.append(content, label)
        if not len(writer):
            raise ValueError(f"{folder} has no image that can be read: {left_out[0]}")
    listing.write_bytes(text.encode("utf-8"))
    return Packed(len(writer), names, left_out)
