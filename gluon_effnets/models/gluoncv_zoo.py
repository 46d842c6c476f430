"""The networks in GluonCV's own model zoo."""

from __future__ import annotations

import functools
from typing import List

from .._gluoncv import import_gluoncv
from .catalog import list_models
from .registry import get_model

__all__ = ["register_with_gluoncv"]


def register_with_gluoncv() -> List[str]:
    """Make all models known to `gluoncv.model_zoo.get_model`, so that GluonCV's scripts can use them.

    Returns the registered names. None of them is a name of GluonCV's own; our aliases, which are, stay GluonCV's.
    """
    model_zoo = import_gluoncv("model_zoo.model_zoo")
    models = {name: functools.partial(get_model, name) for name in list_models()}
    model_zoo._models.update(models)
    return list(models)
