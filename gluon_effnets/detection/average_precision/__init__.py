"""Average precision of detections by the rules of VOC and COCO; it needs NumPy alone."""

from .curves import Curve
from .overlap import overlaps
from .result import ScoreResult
from .scores import KINDS, DetectionScores

__all__ = ["KINDS", "Curve", "DetectionScores", "ScoreResult", "overlaps"]
