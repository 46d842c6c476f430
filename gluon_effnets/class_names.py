"""The names of classes in text files, one per line, and the order in which im2rec numbers class folders."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import Dict, List, Mapping, Optional

from ._gluoncv import import_gluoncv
from .files.regular import read_bytes
from .files.write import write_text
from .runtime.files import named

__all__ = ["identifier", "imagenet_names", "names_of_folder", "names_of_list", "read_lines", "write_names"]

log = logging.getLogger("gluon_effnets")

_WORDNET = re.compile(r"n\d{8}\b")

# The endings that im2rec packs if it is not told others.
_IM2REC_SUFFIXES = (".jpeg", ".jpg", ".png")
_MOST = 1 << 30  # bytes; a list of ImageNet has 70 million
_UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")


def identifier(name: str) -> str:
    """Return what tells a class from others: WordNet's number if the name begins with it, else the name.

    Example: `identifier("n02123045 tabby")` is 'n02123045', the usual name of ImageNet's folder for this class.
    """
    found = _WORDNET.match(name)
    return found.group() if found else name


def imagenet_names() -> List[str]:
    """Return the names of ImageNet's 1000 classes, from 'n01440764 tench' on, as GluonCV has them.

    Raises ModuleNotFoundError if GluonCV is not installed.
    """
    table = import_gluoncv("data.imagenet.classification").ImageNet1kAttr()
    return [f"{number} {name}" for number, name in zip(table.synset, table.classes)]


def read_lines(path, what: str = "file") -> List[str]:
    """Read the names of classes from a text file: the line with number n, from 0, names class n.

    Blank lines at the end and a byte order mark at the beginning are dropped; a name that stands twice is a warning.

    Args:
        path: The file, in UTF-8.
        what: What it should be, for the error text.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is in another encoding, holds no name, or has a blank line between two names.
    """
    lines = [line.strip() for line in _text(Path(path).expanduser(), what).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError(f"{path} holds no names of classes; write one per line, or remove the file")
    if "" in lines:
        number = lines.index("") + 1
        raise ValueError(f"{path}, line {number} is empty; every line names the class of its number: remove or fill it")
    twice = [name for name, count in Counter(lines).items() if count > 1]
    if twice:
        log.warning("%s gives %d name(s) to several classes, e.g. %r", path, len(twice), twice[0])
    return lines


def names_of_list(path, labels: Optional[Mapping[int, int]] = None) -> List[str]:
    """Return the class folders in a list that im2rec wrote (`--list --recursive`), by their labels.

    Args:
        path: The list; its lines are index, label and path of an image, with tabs between.
        labels: Of records that were made by the list, by index; then the list is read until all of them have a name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such list, its labels do not stand for one folder each, from 0 without a gap, or the
            records were made by another list.
    """
    found: Dict[int, str] = {}
    wanted = set(labels.values()) if labels else None
    for number, line in enumerate(_text(Path(path).expanduser(), "file").split("\n"), 1):
        if not line.strip():
            continue
        try:
            key, label, image = line.split("\t")
            index = int(float(label))
            other = labels.get(int(key), index) if labels else index
        except (ValueError, OverflowError):
            raise ValueError(f"{path}, line {number} is not 'index<TAB>label<TAB>path', as im2rec writes it") from None
        folder = os.path.dirname(image.strip())
        if not folder or index != float(label) or found.setdefault(index, folder) != folder:
            raise ValueError(
                f"{path}, line {number}: label {label} does not stand for one folder; the list must be of im2rec with "
                "--list --recursive"
            )
        if other != index:
            raise ValueError(f"{path}, line {number} has label {index}, but the record of this index has {other}")
        if wanted is not None and len(found) == len(wanted) and wanted == found.keys():
            break
    missing = sorted(set(range(max(found, default=0) + 1)) - set(found))
    if missing or min(found) < 0:
        raise ValueError(f"{path} has no image with label {missing[0] if missing else 0}; labels count from 0")
    return [found[index] for index in sorted(found)]


def names_of_folder(path) -> List[str]:
    """Return the class folders inside a folder in the order in which im2rec numbers them, and the folder source too.

    Args:
        path: The folder with a folder per class.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has no class folders, or folders for training and evaluation in their place.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {named(path)}")
    names = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        if any(os.path.splitext(name)[1].lower() in _IM2REC_SUFFIXES for name in files):
            names.append(os.path.relpath(folder, root).replace(os.sep, "/"))
    if "train" not in names and any(name.startswith("train/") for name in names):
        raise ValueError(f"{path} holds the folder train, whose folders are the classes: give {root / 'train'}")
    if "." in names or not names:
        what = "images outside of class folders" if names else f"no images ({', '.join(_IM2REC_SUFFIXES)})"
        raise ValueError(f"{path} holds {what}; images must lie in {path}/CLASS/")
    return names


def write_names(names: List[str], path) -> None:
    """Write one name per line, in UTF-8, so that the file is there complete or not at all."""
    write_text(Path(path).expanduser(), "".join(f"{name}\n" for name in names))


def _text(path: Path, what: str) -> str:
    """The text of a file in UTF-8, with line ends as in Unix."""
    content = read_bytes(path, what, _MOST)
    if content.startswith(_UTF16_STARTS):
        raise ValueError(f"{path} is UTF-16 text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line} has the byte 0x{content[error.start]:02x}, which is no UTF-8 (Latin-1?); "
            "save the file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
