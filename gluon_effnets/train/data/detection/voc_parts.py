"""The lists of images in a VOCdevkit: which there are, which are trained on, and which are evaluated."""

from __future__ import annotations

import os
import re
from typing import Dict, List, NamedTuple, Optional, Sequence

from ....files.regular import beside, read_text
from ....files.text import shown
from ....runtime.files import named

__all__ = [
    "ListedImage",
    "Part",
    "annotation_file",
    "asked_parts",
    "evaluation_parts",
    "find_roots",
    "list_images",
    "training_parts",
    "usual_parts",
]

_USUAL_PARTS = ("trainval", "train", "val", "test")
_MOST_LIST = 1 << 26  # bytes


class Part(NamedTuple):
    """A list of images: `root` is the folder with Annotations, `name` the list's, `year` that of the folder or ''."""

    root: str
    year: str
    name: str

    @property
    def called(self) -> str:
        """How settings name it."""
        return f"{self.year}_{self.name}" if self.year else self.name

    @property
    def path(self) -> str:
        """Of the list."""
        return os.path.join(self.root, "ImageSets", "Main", f"{self.name}.txt")


class ListedImage(NamedTuple):
    """An image of a list: the folder with Annotations, and its name without a suffix."""

    root: str
    id: str


def find_roots(folder: str) -> List[str]:
    """The folders with annotations: this one, or those of a VOCdevkit."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"no data at {named(folder)}; voc:DIR is a VOCdevkit, or a folder such as VOC2007 of it."
        )
    if os.path.isdir(os.path.join(folder, "Annotations")):
        return [folder]
    roots = [
        os.path.join(folder, name)
        for name in sorted(os.listdir(folder))
        if os.path.isdir(os.path.join(folder, name, "Annotations"))
    ]
    if roots:
        return roots
    inner = os.path.join(folder, "VOCdevkit")
    if os.path.isdir(inner):
        return find_roots(inner)
    raise FileNotFoundError(
        f"no folder Annotations in {named(folder)} nor in a folder of it; voc:DIR is a VOCdevkit, or a folder such as "
        "VOC2007 with Annotations, JPEGImages and ImageSets/Main."
    )


def _part(root: str, name: str) -> Part:
    year = re.search(r"(\d{4})$", os.path.basename(os.path.abspath(root)))
    return Part(root, year.group() if year else "", name)


def usual_parts(root: str) -> List[Part]:
    """The usual lists of a folder, but for those whose first image has no annotation: of VOC's secret tests."""
    parts = [_part(root, name) for name in _USUAL_PARTS]
    parts = [part for part in parts if os.path.isfile(part.path)]
    return [part for part in parts if part.name != "test" or _is_annotated(part)]


def _is_annotated(part: Part) -> bool:
    return any(os.path.exists(annotation_file(image)) for image in list_images([part])[:1])


def asked_parts(
    names: Optional[Sequence[str]], setting: str, roots: Sequence[str], parts: Sequence[Part]
) -> Optional[List[Part]]:
    """The parts that a setting names, with or without their year."""
    if names is None:
        return None
    found: List[Part] = []
    for name in names:
        year, _, plain = name.rpartition("_") if re.match(r"\d{4}_", name) else ("", "", name)
        there = [_part(root, plain) for root in roots]
        there = [part for part in there if year in ("", part.year) and _has_list(part)]
        if not there:
            known = ", ".join(dict.fromkeys(part.called for part in parts)) or "none"
            raise ValueError(f"data.{setting} names {shown(name)!r}, which is not there; there are {known}.")
        found += there
    return found


def _has_list(part: Part) -> bool:
    beside(os.path.dirname(part.path), os.path.basename(part.path), "a part in data.train_parts or data.eval_parts")
    return os.path.isfile(part.path)


def evaluation_parts(parts: Sequence[Part]) -> List[Part]:
    """All ``test``, else all ``val``."""
    return [part for part in parts if part.name == "test"] or [part for part in parts if part.name == "val"]


def training_parts(parts: Sequence[Part], with_val: bool) -> List[Part]:
    """Of every folder ``trainval``, if ``val`` is not for the evaluation, else ``train``."""
    chosen = []
    for root in dict.fromkeys(part.root for part in parts):
        here = {part.name: part for part in parts if part.root == root}
        wanted = ("trainval", "train") if with_val else ("train",)
        chosen += [here[name] for name in wanted if name in here][:1]
    return chosen


def list_images(parts: Sequence[Part]) -> List[ListedImage]:
    """The images of some lists, each once."""
    images: Dict[ListedImage, None] = {}
    for part in parts:
        for line in read_text(part.path, "list of images", _MOST_LIST).splitlines():
            words = line.split()
            # Lists of one class have 1, 0 or -1 behind the name.
            if words and (len(words) == 1 or words[1] in ("1", "0", "-1")):
                beside(part.root, words[0], part.path)
                images[ListedImage(part.root, words[0])] = None
            elif words:
                raise ValueError(f"{named(part.path)} has the line {shown(line)!r}; every line names an image.")
    return list(images)


def annotation_file(image: ListedImage) -> str:
    """The path of the annotation of an image."""
    return os.path.join(image.root, "Annotations", f"{image.id}.xml")
