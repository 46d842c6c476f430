"""gluon_effnets: efficient image-recognition networks on Apache MXNet/Gluon.

MXNet is imported with the first name that needs it, so that `gluon_effnets.runtime` works where there is none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from .models import get_model, list_models, model_info, register_with_gluoncv

__version__ = "0.1.0"

__all__ = ["__version__", "get_model", "list_models", "model_info", "register_with_gluoncv"]

# Rooms that come with the names above, as attributes.
_ROOMS = ("models", "native", "nn")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.models"), name)
    return found


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
