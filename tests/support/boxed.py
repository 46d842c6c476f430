"""Small sets of images with boxes, in each of the layouts that are read."""

from __future__ import annotations

import json
from typing import List, NamedTuple, Sequence

import cv2
import numpy as np

from gluon_effnets.runtime.recordio import Writer
from tests.support.images import photo

NAMES = ["Bee", "ant"]  # which no sorting that heeds only letters would give


class Drawn(NamedTuple):
    """An image with objects: class, corners in pixels with the second one exclusive, difficult."""

    id: int
    height: int
    width: int
    objects: Sequence[tuple]

    @property
    def pixels(self) -> np.ndarray:
        return photo(self.id, self.height, self.width)

    @property
    def png(self) -> bytes:
        return cv2.imencode(".png", self.pixels[..., ::-1])[1].tobytes()


def drawn(count: int, first: int = 0) -> List[Drawn]:
    """Images of two shapes; every fifth has no object, every third object is difficult."""
    images = []
    for number in range(first, first + count):
        random = np.random.RandomState(number)
        height, width = ((40, 52), (61, 37))[number % 2]
        objects = []
        for place in range(0 if number % 5 == 4 else random.randint(1, 5)):
            left, top = random.randint(0, width - 12), random.randint(0, height - 12)
            right, bottom = random.randint(left + 4, width + 1), random.randint(top + 4, height + 1)
            objects.append((random.randint(2), (left, top, right, bottom), place % 3 == 2))
        images.append(Drawn(number, height, width, objects))
    return images


def xml_of(image: Drawn, names=NAMES) -> str:
    """The annotation in Pascal VOC's words."""
    objects = "".join(
        f"<object><name>{names[kind]}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{box[0] + 1}</xmin>"
        f"<ymin>{box[1] + 1}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for kind, box, difficult in image.objects
    )
    size = f"<size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{image.id:03d}.png</filename>{size}{objects}</annotation>"


def write_voc(root, parts, names=NAMES):
    """A folder such as VOC2007; `parts` are the images of each list."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for part, images in parts.items():
        (root / "ImageSets/Main" / f"{part}.txt").write_text("".join(f"{image.id:03d}\n" for image in images))
        for image in images:
            (root / "Annotations" / f"{image.id:03d}.xml").write_text(xml_of(image, names))
            (root / "JPEGImages" / f"{image.id:03d}.png").write_bytes(image.png)
    return root


def coco_of(images, names=NAMES) -> dict:
    """The content of an annotation file in COCO's words; ids of categories have gaps, and are not in order."""
    annotations = [
        {
            "id": 100 * image.id + place,
            "image_id": image.id,
            "category_id": 7 + 10 * kind,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "area": 0.5 * (box[2] - box[0]) * (box[3] - box[1]),
            "iscrowd": int(difficult),
            "segmentation": [[0, 1, 2, 3]],
        }
        for image in images
        for place, (kind, box, difficult) in enumerate(image.objects)
    ]
    listed = [
        {"id": image.id, "file_name": f"{image.id:03d}.png", "height": image.height, "width": image.width, "license": 1}
        for image in images
    ]
    categories = [{"id": 7 + 10 * kind, "name": name, "supercategory": ""} for kind, name in enumerate(names)][::-1]
    return {"info": {}, "licenses": [], "images": listed, "annotations": annotations, "categories": categories}


def write_coco(root, parts, names=NAMES):
    """A folder with annotations/instances_PART.json and the images in PART."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for part, images in parts.items():
        (root / part).mkdir()
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(coco_of(images, names)))
        for image in images:
            (root / part / f"{image.id:03d}.png").write_bytes(image.png)
    return root


def label_of(image: Drawn, width: int = 6) -> List[float]:
    """The list of a record: header of two numbers, and for each object a class, a box in shares, and whether it is
    difficult."""
    scale = (image.width, image.height, image.width, image.height)
    numbers = [2.0, float(width)]
    for kind, box, difficult in image.objects:
        numbers += [kind, *(side / whole for side, whole in zip(box, scale)), float(difficult)][:width]
    return numbers


def write_detrec(root, parts, names=NAMES, width: int = 6, labels=label_of):
    """train.rec, val.rec, ... and classes.txt."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    for part, images in parts.items():
        with Writer(root / f"{part}.rec") as writer:
            for image in images:
                writer.append(image.png, labels(image, width), image.id)
    return root
