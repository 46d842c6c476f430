"""Sources of images with boxes: annotations are checked against the images, and become batches for detectors."""

from __future__ import annotations

from dataclasses import replace

from ..base import Shard
from ..settings import Source
from .data import DetectionData

__all__ = ["DetectionData", "open_detection"]


def open_detection(shard: Shard, source: Source) -> DetectionData:
    """Open a source of images with boxes, for one worker.

    Args:
        shard: The part that this worker reads.
        source: Its kind is one of `DETECTION_KINDS`.

    Raises:
        ValueError: The data do not fit the settings, or a file is not what it should be.
        FileNotFoundError: The named files do not exist.
    """
    if shard.settings.augment == "imagenet":  # the default of all kinds of data
        shard = replace(shard, settings=replace(shard.settings, augment="ssd"))
    if source.kind == "voc":
        from .voc import open_voc

        return open_voc(shard, source.argument)
    if source.kind == "coco":
        from .coco import open_coco

        return open_coco(shard, source.argument)
    if source.kind == "detrec":
        from .detrec import open_detrec

        return open_detrec(shard, source.argument)
    from .scattered_digits import open_scattered_digits

    return open_scattered_digits(shard, source.argument)
