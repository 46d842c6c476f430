"""The voc source: a VOCdevkit, or one folder of it, with the annotations of Pascal VOC.

GluonCV's own `VOCDetection` is not used: it refuses names in upper case, drops boxes that begin at 0, and leaves an
image without a good box in a shape on which its transforms fail; `CustomVOCDetection` finds no boxes of other classes
than VOC's, and `COCODetection` installs packages when it is made.
"""

from __future__ import annotations

import logging
import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple
from xml.etree.ElementTree import Element

from ....files.regular import beside
from ....files.text import shown
from ....files.xml_text import read_xml
from ....runtime.files import named
from ....runtime.image_files import SUFFIXES, is_image
from ..base import Shard
from ..decode import ordered_map
from ..labels import read_class_names
from ..records import progress
from ..settings import DataSettings
from .annotations import MOST_BOXES, Annotation, check_annotations
from .bad_boxes import BadBoxes
from .data import DetectionData
from .photos import FilePhotos
from .sizes import file_header, image_sizes
from .voc_parts import (
    ListedImage,
    annotation_file,
    asked_parts,
    evaluation_parts,
    find_roots,
    list_images,
    training_parts,
    usual_parts,
)

__all__ = ["VOC_CLASSES", "open_voc"]

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_MOST_XML = 1 << 22
_PER_TASK = 64
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_log = logging.getLogger("gluon_effnets")


class _Object(NamedTuple):
    kind: str
    box: Tuple[float, ...]
    difficult: bool


class _Page(NamedTuple):
    """What an annotation file says."""

    size: Optional[Tuple[int, int]]
    file_name: str
    objects: List[_Object]


def open_voc(shard: Shard, folder: str) -> DetectionData:
    """Images with boxes in the layout of Pascal VOC.

    Trained on are all parts ``trainval``, or ``train`` where there is none and where ``val`` is for the evaluation;
    evaluated are all parts ``test`` with annotations, else ``val``. `train_parts` and `eval_parts` choose others. No
    image that is evaluated is trained on.

    The classes are the lines of ``classes.txt`` in the folder or beside its VOCdevkit; else VOC's 20, in their usual
    order, if there are no others; else the names that are found, sorted.

    Args:
        shard: The part that this worker reads.
        folder: A VOCdevkit, or one folder of it: ``Annotations``, ``JPEGImages`` and ``ImageSets/Main``.

    Raises:
        FileNotFoundError: There is no such folder, or a part or an annotation is not there.
        ValueError: A file is not what it should be, or a box is bad and `bad_boxes` is ``raise``.
        UnreadableImageError: An image is missing or unreadable, unless such images are skipped.
    """
    settings = shard.settings
    roots = find_roots(folder)
    parts = [part for root in roots for part in usual_parts(root)]
    chosen_eval = asked_parts(settings.eval_parts, "eval_parts", roots, parts) or evaluation_parts(parts)
    val_is_free = all(part.name != "val" for part in chosen_eval)
    chosen_train = asked_parts(settings.train_parts, "train_parts", roots, parts) or training_parts(parts, val_is_free)
    if not chosen_train and not chosen_eval:
        raise FileNotFoundError(
            f"no list of images in {named(roots[0])}/ImageSets/Main: neither trainval.txt, train.txt, val.txt nor "
            "test.txt is there."
        )
    train, val = list_images(chosen_train), list_images(chosen_eval)
    evaluated = set(val)
    left = [image for image in train if image not in evaluated]
    if len(left) < len(train) and shard.rank == 0:
        _log.warning("%s: %d images are for the evaluation and not trained on", folder, len(train) - len(left))
    pages = _read_pages([*left, *val], settings, folder)
    found = {thing.kind for page in pages for thing in page.objects}
    names, whence = _class_names(folder, roots, found)
    if shard.rank == 0:
        listed = [" and ".join(part.called for part in chosen) or "nothing" for chosen in (chosen_train, chosen_eval)]
        text = "%s: trains on %s, evaluates on %s; %d classes (%s)"
        _log.info(text, folder, *listed, len(names), whence)
    bad = BadBoxes(settings.bad_boxes)
    number = len(left)
    made = [
        _photos(images, said, names, settings, bad) if images else None
        for images, said in ((left, pages[:number]), (val, pages[number:]))
    ]
    if shard.rank == 0:
        bad.report(settings.source)
    return DetectionData(shard, made[0], made[1], names)


def _read_pages(images: Sequence[ListedImage], settings: DataSettings, folder: str) -> List[_Page]:
    def read(first: int) -> List[_Page]:
        return [_read_page(annotation_file(image)) for image in images[first : first + _PER_TASK]]

    threads = settings.num_threads
    parts = ordered_map(read, range(0, len(images), _PER_TASK), threads, ahead=2 * threads)
    tasks = -(-len(images) // _PER_TASK)
    return [page for part in progress(parts, tasks, f"reading annotations of {folder} (x{_PER_TASK})") for page in part]


def _read_page(path: str) -> _Page:
    root = read_xml(path, "annotation", _MOST_XML)
    if root.tag != "annotation":
        raise ValueError(f"{named(path)} is no annotation of Pascal VOC: it begins with <{shown(root.tag)}>.")
    things = root.findall("object")
    if len(things) > MOST_BOXES:
        raise ValueError(f"{named(path)} has {len(things):,} objects; at most {MOST_BOXES:,} are read.")
    objects = []
    for thing in things:
        sides = [_number(thing.find(f"bndbox/{side}")) for side in _SIDES]
        # Corners count from 1, and the second one is part of the box.
        box = (sides[0] - 1, sides[1] - 1, sides[2], sides[3])
        objects.append(_Object(_text(thing.find("name")), box, _number(thing.find("difficult")) == 1))
    width, height = (_number(root.find(f"size/{side}")) for side in ("width", "height"))
    known = 1 <= width < 1 << 24 and 1 <= height < 1 << 24
    return _Page((int(height), int(width)) if known else None, _text(root.find("filename")), objects)


def _text(element: Optional[Element]) -> str:
    return "" if element is None else (element.text or "").strip()


def _number(element: Optional[Element]) -> float:
    try:
        return float(_text(element))
    except ValueError:
        return float("nan")


def _class_names(folder: str, roots: Sequence[str], found: Set[str]) -> Tuple[List[str], str]:
    """The names of the classes, and where they are from."""
    places = [folder, *roots]
    if os.path.basename(os.path.abspath(os.path.dirname(os.path.abspath(roots[0])))) == "VOCdevkit":
        places.append(os.path.dirname(os.path.dirname(os.path.abspath(roots[0]))))
    for place in places:
        names = read_class_names(place)
        if names:
            return names, f"of {os.path.join(place, 'classes.txt')}"
    if found <= set(VOC_CLASSES):
        return list(VOC_CLASSES), "Pascal VOC's"
    return sorted(found - {""}), "as found, sorted; classes.txt in the folder may give them another order"


def _photos(
    images: Sequence[ListedImage], pages: Sequence[_Page], names: Sequence[str], settings: DataSettings, bad: BadBoxes
) -> FilePhotos:
    there = {root: set(_listed(os.path.join(root, "JPEGImages"))) for root in {image.root for image in images}}
    paths = [_image_file(image, page, there[image.root]) for image, page in zip(images, pages)]
    text = f"reading the sizes of images in {images[0].root}"
    sizes = image_sizes(len(paths), lambda position: file_header(paths[position]), settings, text)
    place = {name: number for number, name in enumerate(names)}
    checked, kept = check_annotations(
        (_annotation(image, page, place) for image, page in zip(images, pages)), sizes, bad
    )
    return FilePhotos(checked, [paths[position] for position in kept])


def _listed(folder: str) -> List[str]:
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no folder {folder}, in which the images should be.")
    return os.listdir(folder)


def _image_file(image: ListedImage, page: _Page, there: Set[str]) -> str:
    """The path of an image: named as its annotation, or as that says."""
    folder = os.path.join(image.root, "JPEGImages")
    for name in (image.id + suffix for suffix in (".jpg", *SUFFIXES, ".JPG", *map(str.upper, SUFFIXES))):
        if name in there:
            return os.path.join(folder, name)
    if page.file_name in there and is_image(page.file_name):
        return str(beside(folder, page.file_name, annotation_file(image)))
    return os.path.join(folder, f"{image.id}.jpg")


def _annotation(image: ListedImage, page: _Page, place: Dict[str, int]) -> Annotation:
    things = page.objects
    year = os.path.basename(os.path.abspath(image.root))
    return Annotation(
        f"{year}/{image.id}",
        annotation_file(image),
        page.size,
        [thing.box for thing in things],
        [place.get(thing.kind, -1) for thing in things],
        [thing.kind for thing in things],
        [thing.difficult for thing in things],
    )
