"""Trained networks on images: accuracy, classes of single images, routes, reused features."""

from .. import _mxnet  # noqa: F401  before all that needs it
