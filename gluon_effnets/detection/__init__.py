"""Detectors on the networks of `models/`: backbones, anchors, heads, and boxes decoded and chosen inside the graph."""

import importlib

from .. import _mxnet  # noqa: F401  before all that needs it
from .anchors import AnchorLevel, anchor_boxes
from .average_precision import DetectionScores
from .backbone import Backbone
from .boxes import Detections, Selection, encode
from .detector import Detector
from .faster_rcnn import FasterRCNN
from .fssd import FSSD
from .losses import Focal, Losses, MultiBox
from .registry import (
    DetectorInfo,
    detector_info,
    get_detector,
    is_detector,
    list_detectors,
    load_detector,
    register_detector,
)
from .retinanet import RetinaNet
from .ssdlite import SSDLite
from .targets import Matching
from .truth import Truth

__all__ = [
    "AnchorLevel",
    "Backbone",
    "DetectionScores",
    "Detections",
    "FSSD",
    "FasterRCNN",
    "Detector",
    "DetectorInfo",
    "Focal",
    "Losses",
    "Matching",
    "MultiBox",
    "RetinaNet",
    "SSDLite",
    "Selection",
    "Truth",
    "anchor_boxes",
    "detector_info",
    "encode",
    "get_detector",
    "is_detector",
    "list_detectors",
    "load_detector",
    "register_detector",
]

# The detectors, registered as their files are imported.
for _module in ("faster_rcnn", "fssd", "retinanet", "routed_fssd", "ssdlite320"):
    importlib.import_module(f"{__name__}.{_module}")
