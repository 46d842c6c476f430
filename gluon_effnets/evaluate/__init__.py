"""Trained networks on images: accuracy, classes and boxes of single images, routes, reused features."""

from .. import _mxnet  # noqa: F401  before all that needs it
from .detect import ImageDetections, ImageDetector, detect_images

__all__ = ["ImageDetections", "ImageDetector", "detect_images"]
