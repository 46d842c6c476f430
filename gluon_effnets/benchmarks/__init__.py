"""Measurements of speed and size, and the variants and libraries that networks are compared with."""

from .. import _mxnet  # noqa: F401  before all that needs it
