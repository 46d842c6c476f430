"""The kinds of input, each with a damaged case for every number."""

from __future__ import annotations

from pathlib import Path
from typing import List

from ..judge import Part
from .boxes import Boxes
from .callers import Callers
from .detector_callers import DetectorCallers
from .detectors import Detectors
from .exports import Exports
from .pictures import Pictures
from .texts import Texts
from .undamaged import Undamaged
from .weights import Weights

__all__ = ["all_parts"]

_ROOMS = (Undamaged, Exports, Weights, Texts, Pictures, Callers, Boxes, Detectors, DetectorCallers)


def all_parts(folder: Path) -> List[Part]:
    """All parts, over a folder of undamaged files, in the order in which they run."""
    return [part for room in _ROOMS for part in room(folder).parts()]
