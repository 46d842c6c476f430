"""Exported networks and RecordIO files without MXNet: all that is here needs NumPy, Pillow and ONNX Runtime alone.

Nothing of the package above is imported, and a wheel of its own (`make runtime-wheel`) holds this folder alone.

Example:
    >>> from gluon_effnets.runtime import load
    >>> net = load("net.onnx")
    >>> net.top("cat.jpg", 3)
    >>> load("detector.onnx")("street.jpg", score_above=0.5)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

from .preprocessing import Preprocessing

if TYPE_CHECKING:
    from .detector import Detection, Detector
    from .network import Network, load

__all__ = ["Detection", "Detector", "Network", "Preprocessing", "load"]


def __getattr__(name: str) -> Any:
    # Whoever needs the preprocessing or RecordIO alone does not wait for Pillow.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "detector" if name in ("Detection", "Detector") else "network"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
