"""Training data: `open_data` turns the data section of a recipe into batches for one worker."""

from __future__ import annotations

from dataclasses import replace

from .base import Data, Shard
from .settings import (
    DETECTION_KINDS,
    Batch,
    DataSettings,
    DetectionBatch,
    check_purpose,
    make_records_help,
    no_source_message,
    parse_source,
)

__all__ = [
    "Batch",
    "Data",
    "DataSettings",
    "DetectionBatch",
    "Shard",
    "make_records_help",
    "no_source_message",
    "open_data",
]


def open_data(settings: DataSettings, *, seed: int, rank: int = 0, world: int = 1) -> Data:
    """Open the source that settings name, for one worker.

    Args:
        settings: The data section of a recipe; `settings.source` names the source.
        seed: What the order and the augmentation of the training images depend on.
        rank, world: Which of how many workers reads.

    Raises:
        ValueError: No source or an unknown kind is named, or the data do not fit the settings.
        FileNotFoundError: The named files do not exist.

    Example:
        data = open_data(DataSettings(source="synthetic:64"), seed=0)
        batch = next(data.train_batches(epoch=0))
    """
    source = parse_source(settings.source)
    check_purpose(settings, source.kind)
    name = f"{source.kind}:{source.argument}" if source.argument else source.kind
    shard = Shard(replace(settings, source=name), seed, rank, world)
    # Sources are imported on use: digits alone needs scikit-learn.
    if source.kind == "digits":
        from .arrays import open_digits

        return open_digits(shard)
    if source.kind == "cifar10":
        from .arrays import open_cifar10

        return open_cifar10(shard, source.argument)
    if source.kind == "synthetic":
        from .arrays import open_synthetic

        return open_synthetic(shard, source.argument)
    if source.kind == "folder":
        from .folder import open_folder

        return open_folder(shard, source.argument)
    if source.kind in DETECTION_KINDS:
        from .detection import open_detection

        return open_detection(shard, source)
    from .recordio import open_recordio

    return open_recordio(shard, source.argument)
