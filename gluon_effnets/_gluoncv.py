"""GluonCV, which refuses to be imported where a PyTorch newer than itself is installed."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType

from PIL import ImageFile

__all__ = ["import_gluoncv"]

_lock = threading.Lock()


def import_gluoncv(module: str = "") -> ModuleType:
    """Import GluonCV, or one of its modules, whatever PyTorch lies beside it.

    GluonCV 0.10.5 ends its own import with a RuntimeError where PyTorch 2 or newer is installed, although its half for
    MXNet needs none. It is therefore imported as if there were no PyTorch; what has imported PyTorch before keeps it,
    and later imports of both work as usual. GluonCV also tells Pillow to take images that are cut short for whole ones;
    Pillow stays as it was.

    Args:
        module: Name below `gluoncv`, such as "model_zoo"; empty for GluonCV itself.

    Raises:
        ModuleNotFoundError: GluonCV is not installed.
    """
    with _lock:
        if "gluoncv" not in sys.modules:
            torch, truncated = sys.modules.get("torch"), ImageFile.LOAD_TRUNCATED_IMAGES
            sys.modules["torch"] = None  # type: ignore[assignment]  # Python's mark for what must not be imported
            try:
                importlib.import_module("gluoncv")
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = truncated
                del sys.modules["torch"]
                if torch is not None:
                    sys.modules["torch"] = torch
        return importlib.import_module(f"gluoncv.{module}" if module else "gluoncv")
