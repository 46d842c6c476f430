"""Training data: `open_data` turns the data section of a recipe into batches for one worker."""

from __future__ import annotations

from dataclasses import replace

from .base import Data
from .settings import Batch, DataSettings, make_records_help, no_source_message, parse_source

__all__ = ["Batch", "Data", "DataSettings", "make_records_help", "no_source_message", "open_data"]


def open_data(settings: DataSettings, *, seed: int, rank: int = 0, world: int = 1) -> Data:
    """Opens the source named by ``settings.source`` for worker `rank` of `world`.

    Raises
    ------
    ValueError
        If no source or an unknown kind is named, or the data do not fit the settings.
    FileNotFoundError
        If the named files do not exist.
    """
    source = parse_source(settings.source)
    settings = replace(settings, source=f"{source.kind}:{source.argument}" if source.argument else source.kind)
    # Sources are imported on use: digits alone needs scikit-learn.
    if source.kind == "digits":
        from .arrays import open_digits

        return open_digits(settings, seed, rank, world)
    if source.kind == "cifar10":
        from .arrays import open_cifar10

        return open_cifar10(settings, seed, rank, world, source.argument)
    if source.kind == "synthetic":
        from .arrays import open_synthetic

        return open_synthetic(settings, seed, rank, world, source.argument)
    if source.kind == "folder":
        from .folder import open_folder

        return open_folder(settings, seed, rank, world, source.argument)
    from .recordio import open_recordio

    return open_recordio(settings, seed, rank, world, source.argument)
