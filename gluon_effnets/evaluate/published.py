"""Which published accuracies stand beside those measured: those of the same weights or model, on ImageNet alone."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Dict, List, Optional

from ..class_names import identifier
from ..models import model_info
from ..models.catalog import described_info
from ..train.data import Data
from ..weights.published import published_weights
from .subject import Subject

__all__ = ["IMAGENET_IMAGES", "has_imagenet_classes", "is_imagenet", "published_beside"]

IMAGENET_IMAGES = 50_000  # for evaluation
# Of ImageNet's 1000 WordNet numbers, sorted, a line each without a line break at the end.
_CLASSES_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


def has_imagenet_classes(data: Data) -> bool:
    """Whether the classes are ImageNet's 1000.

    By their WordNet numbers (n01440764, or n01440764 tench), or by name (tench to toilet tissue), or without names if
    there are ImageNet's 50,000 evaluation images.
    """
    names = data.class_names
    if data.num_classes != 1000 or names is None:
        return data.num_classes == 1000 and data.num_val == IMAGENET_IMAGES
    numbers = sorted(map(identifier, names))
    if all(re.fullmatch(r"n\d{8}", number) for number in numbers):
        return hashlib.sha256("\n".join(numbers).encode()).hexdigest() == _CLASSES_SHA256
    return names[0].lower().startswith("tench") and names[-1].lower().startswith("toilet")


def is_imagenet(name: str, data: Data) -> bool:
    """Whether published accuracies of a model on ImageNet can be compared with those on data.

    These have ImageNet's classes (`has_imagenet_classes`), and images of the model's own size.
    """
    return has_imagenet_classes(data) and data.image_size == model_info(name).input_size


def published_beside(subject: Subject) -> List[Dict[str, Any]]:
    """Return rows with `what`, `value` and `source`: published for exactly these weights, else for the model.

    There are none unless the data have ImageNet's classes, and none for weights that were trained further.
    """
    if not has_imagenet_classes(subject.data) or "changed" in subject.origin:
        return []
    digest: Optional[str] = subject.origin.get("sha256")
    weights = next((row for row in published_weights() if row.sha256 == digest), None)
    if weights:
        named = (("top1", "top-1"), ("top5", "top-5"))
        return [
            {"what": what, "value": f"{row[key]:g} %", "source": row["source"]}
            for row in weights.published
            for key, what in named
            if key in row
        ]
    info = described_info(subject.model)
    rows = info.published if subject.data.image_size == info.input_size else ()
    return [{key: row[key] for key in ("what", "value", "source")} for row in rows if "top-1" in row["what"]]
