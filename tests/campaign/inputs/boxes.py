"""Images with boxes: folders of VOC, annotations of COCO, and records with lists of boxes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from pathlib import Path
from random import Random
from typing import Any, Callable, List

import numpy as np

from .. import damage
from ..judge import Call
from ..sources import DETECTOR, put
from .room import Room, command, told

METRICS = ("voc07", "voc12", "coco")
_NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "0.5",
    "1e-320",
    str(2**31),
    str(2**63),
    "9" * 400,
    "0x10",
    "٣",
    "",
)
_PARTS = ("train", "val", "test", "trainval", "2007_val", "nothing", "..", "../val", "", "\x1b[2J", "x" * 5000)


class Boxes(Room):
    """Annotations of boxes and their images."""

    def voc(self, place: Path, draw: Random) -> Call:
        """Folders of VOC: XML, lists of images, names of classes, images, and what is no file."""
        self._give(place, "voc", f"{DETECTOR}.params")
        for _ in range(draw.choice([1, 1, 2])):
            path = draw.choice([one for one in sorted((place / "voc").rglob("*")) if os.path.lexists(one)])
            kind = draw.randrange(10)
            if kind <= 5:
                path = draw.choice(sorted((place / "voc" / "Annotations").glob("*.xml")) or [path])
            if kind <= 7 and path.is_file():
                change = {".xml": _of_xml, ".txt": damage.of_lines}.get(path.suffix, damage.of_bytes)
                put(path, change(path.read_bytes(), draw))
            elif kind == 8:
                damage.special(path, draw)
            else:
                with contextlib.suppress(OSError):  # of what is there under that name
                    path.rename(path.with_name(draw.choice(["x", ".hidden", "a\nb", "\x1b[2J", "classes.txt"])))
        return Call(_used("voc:voc", draw))

    def coco(self, place: Path, draw: Random) -> Call:
        """Annotation files of COCO, and the images that they name."""
        self._give(place, "coco", f"{DETECTOR}.params")
        part = draw.choice(["train", "val", "val"])
        path = place / "coco" / "annotations" / f"instances_{part}.json"
        kind = draw.randrange(10)
        if kind <= 4:
            put(path, damage.of_json(path.read_bytes(), draw))
        elif kind <= 6:
            put(path, _rewritten(json.loads(path.read_bytes()), draw))
        elif kind == 7:
            damage.special(draw.choice(sorted((place / "coco").rglob("*"))), draw)
        else:
            image = draw.choice(sorted((place / "coco" / part).iterdir()))
            put(image, damage.of_bytes(image.read_bytes(), draw))
        return Call(_used(f"coco:{draw.choice(['coco', path])}", draw))

    def detrec(self, place: Path, draw: Random) -> Call:
        """Records with lists of boxes: their bytes, indexes, names of classes, and lists that lie."""
        self._give(place, "detrec", f"{DETECTOR}.params")
        path = place / "detrec" / draw.choice(["train.rec", "val.rec", "val.rec", "val.idx", "classes.txt"])
        if path.suffix == ".rec" and draw.random() < 0.5:
            _relabeled(path, draw)
        else:
            change = damage.of_bytes if path.suffix == ".rec" or draw.random() < 0.3 else damage.of_lines
            put(path, change(path.read_bytes(), draw))
        if draw.random() < 0.2:
            whole = path.with_name("val.rec")
            words = draw.choice([["check", whole, "--decode"], ["list", whole], ["repair", whole, "new.rec"]])
            return Call(told(command("records", *words, runtime=True)))
        return Call(_used(f"detrec:{draw.choice(['detrec', 'detrec', 'detrec/val.rec'])}", draw))


def validated_detector(source: str, *words: Any) -> Callable[[], Any]:
    """A call that scores the small detector."""
    return command("validate", DETECTOR, f"{DETECTOR}.params", "--data", source, *words)


def read_boxes(source: str, part: str, **settings: Any) -> None:
    """All batches of a part of images with boxes."""
    from gluon_effnets.train.data import open_data
    from gluon_effnets.train.data.settings import DataSettings

    data = open_data(DataSettings(source=source, image_size=32, batch_size=2, **settings), seed=0)
    for batch in data.val_batches() if part == "val" else data.train_batches(0):
        boxes, label = batch.boxes.asnumpy(), batch.label.asnumpy()
        there = label >= 0
        inside = ((boxes >= -1e-6) & (boxes <= 1 + 1e-6)).all(axis=2)
        whole = (boxes[..., 0] <= boxes[..., 2]) & (boxes[..., 1] <= boxes[..., 3])
        if (
            not np.isfinite(batch.data.asnumpy()).all()
            or not (inside & whole & (label < data.num_classes))[there].all()
        ):
            print("nan% in a batch")


def _used(source: str, draw: Random) -> Callable[[], Any]:
    """Read, trained on or evaluated, with settings of every kind."""
    settings = {}
    if draw.random() < 0.5:
        settings["on_error"] = "skip"
    if draw.random() < 0.3:
        settings["bad_boxes"] = "raise"
    if draw.random() < 0.1:
        settings["eval_parts"] = [draw.choice(_PARTS)]
    if draw.random() < 0.3:
        words = [word for key, value in settings.items() for word in ("--set", f"data.{key}={json.dumps(value)}")]
        words = [word for word in words if "\0" not in word]
        return validated_detector(source, "--metric", draw.choice(METRICS), *words)
    augment = draw.choice(["none", "ssd"])
    return functools.partial(read_boxes, source, draw.choice(["train", "val", "val"]), augment=augment, **settings)


def _of_xml(content: bytes, draw: Random) -> bytes:
    """Change an element of an annotation: its text, its name, its place, how many there are; or what is no text."""
    text = content.decode()
    kind = draw.randrange(10)
    if kind == 0:
        return damage.of_bytes(content, draw)
    if kind == 1:
        harms = ['<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "<!DOCTYPE a [<!ENTITY x 'ha'>]>"]
        head = draw.choice([*harms, '<?xml version="1.0" encoding="klingon"?>', "<?canary touch?>", "\ufeff"])
        return (head + text.replace("Bee", "&x;").replace("ant<", "&x;<")).encode()
    elements = list(re.finditer(r"<(\w+)>([^<]*)</\1>", text))
    hit = draw.choice(elements) if elements else None
    if hit is None or kind == 2:
        return (text.replace("<object>", "<a>" * draw.choice([3, 40, 3000])) + "<a>" * 40).encode()
    name, value = hit.groups()
    if kind <= 6:
        words = [*damage.HOSTILE_WORDS, *_NUMBERS, *_NUMBERS]
        value = str(draw.choice(words)).replace("&", "&amp;").replace("<", "&lt;")
        changed = f"<{name}>{value}</{name}>"
    elif kind == 7:
        changed = ""
    elif kind == 8:
        changed = hit.group() * draw.choice([2, 3, 5000])
    else:
        changed = f"<{draw.choice(['object', 'name', 'x', 'size', 'annotation'])}>{value}</{name}>"
    return (text[: hit.start()] + changed + text[hit.end() :]).encode("utf-8", "surrogatepass")


def _rewritten(tree: Any, draw: Random) -> bytes:
    """Annotations whose numbers or names lie, each of the right type."""
    numbers = [0, -1, 0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 2**31, 2**62, 10**400]
    for _ in range(draw.choice([1, 3, 9])):
        kind = draw.randrange(6)
        row = draw.choice(tree["annotations"])
        image = draw.choice(tree["images"])
        if kind <= 1:
            row["bbox"][draw.randrange(4)] = draw.choice(numbers)
        elif kind == 2:
            row[draw.choice(["area", "iscrowd", "image_id", "category_id"])] = draw.choice(numbers)
        elif kind == 3:
            image[draw.choice(["width", "height", "id"])] = draw.choice(numbers)
        elif kind == 4:
            image["file_name"] = draw.choice([*damage.HOSTILE_WORDS, "val", ".", "020.png", "a" * 255])
        else:
            draw.choice(tree["categories"])["name"] = draw.choice(damage.HOSTILE_WORDS)
    return damage.written(tree, draw)


def _relabeled(path: Path, draw: Random) -> None:
    """Write the records again, one of them with another list."""
    from gluon_effnets.runtime.recordio import Reader, Writer

    records = list(Reader(path))
    chosen = draw.randrange(len(records))
    for one in (path, path.with_suffix(".idx")):
        one.unlink()
    with Writer(path) as writer:
        for number, record in enumerate(records):
            labels: List[float] = record.labels.tolist()
            for _ in range(draw.choice([1, 2, 5]) if number == chosen else 0):
                value = draw.choice([float("nan"), float("inf"), -1, 0, 1, 2, 3, 5, 6, 1e9, -1e30, 0.5, 2**24])
                kind = draw.randrange(4)
                at = draw.randrange(len(labels) + (kind == 1))
                if kind == 1:
                    labels.insert(at, value)
                elif kind == 2 and len(labels) > 1:
                    del labels[at]
                else:
                    labels[at] = value
            writer.append(record.content, labels, number)
