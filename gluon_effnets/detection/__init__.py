"""Detectors on the networks of `models/`: backbones, anchors, heads, and boxes decoded and chosen inside the graph."""

import importlib

from .. import _mxnet  # noqa: F401  before all that needs it
from .anchors import AnchorLevel, anchor_boxes
from .backbone import Backbone
from .boxes import Detections, Selection, encode
from .detector import Detector
from .faster_rcnn import FasterRCNN
from .fssd import FSSD
from .registry import DetectorInfo, detector_info, get_detector, list_detectors, register_detector
from .retinanet import RetinaNet
from .ssdlite import SSDLite

__all__ = [
    "AnchorLevel",
    "Backbone",
    "Detections",
    "FSSD",
    "FasterRCNN",
    "Detector",
    "DetectorInfo",
    "RetinaNet",
    "SSDLite",
    "Selection",
    "anchor_boxes",
    "detector_info",
    "encode",
    "get_detector",
    "list_detectors",
    "register_detector",
]

# The detectors, registered as their files are imported.
for _module in ("faster_rcnn", "fssd", "retinanet", "routed_fssd", "ssdlite320"):
    importlib.import_module(f"{__name__}.{_module}")
