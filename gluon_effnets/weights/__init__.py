"""Importers of official checkpoints: `load_official`, `read_checkpoint`, `convert`."""

from .. import _mxnet  # noqa: F401  before all that needs it
from .conversion import Conversion, convert
from .files import read_checkpoint
from .load import load_official
from .official import official_weights, write_official
from .published import PublishedWeights, published_weights

__all__ = [
    "Conversion",
    "PublishedWeights",
    "convert",
    "load_official",
    "official_weights",
    "published_weights",
    "read_checkpoint",
    "write_official",
]
