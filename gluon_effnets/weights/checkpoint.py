"""Checkpoint: what was read of a file of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np

__all__ = ["Checkpoint"]


class Checkpoint(Dict[str, np.ndarray]):
    """Tensors by name, and what their file says besides.

    Attributes:
        path: Of the file.
        architecture: What the file says it is of, or None.
        preprocessing: Fields of the preprocessing that the file itself states.
        marks: Identity and card of the network, in a file with our own names; empty in all others.
    """

    path: Optional[Path] = None
    architecture: Optional[str] = None
    preprocessing: Mapping[str, Any] = {}
    marks: Mapping[str, Any] = {}
