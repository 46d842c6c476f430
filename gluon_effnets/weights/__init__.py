"""Importers of official checkpoints: `load_official`, `read_checkpoint`, `convert`."""

from .. import _mxnet  # noqa: F401  before all that needs it
from .conversion import Conversion, convert
from .files import read_checkpoint
from .load import load_official

__all__ = ["Conversion", "convert", "load_official", "read_checkpoint"]
