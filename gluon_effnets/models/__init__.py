"""The networks, one file per family, and their registry."""

from . import (
    alexnet,
    condensenet,
    condensenetv2,
    efficientnet,
    idle,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    mobilenext,
    sfr_shufflenetv2,
    shufflenetv1,
    shufflenetv2,
    structure_units,
)
from .base import ClassificationNet, StageInfo
from .preprocessing import Preprocessing
from .registry import ModelInfo, get_model, list_models, model_info, register_model, register_with_gluoncv

__all__ = [
    "ClassificationNet",
    "ModelInfo",
    "Preprocessing",
    "StageInfo",
    "alexnet",
    "condensenet",
    "condensenetv2",
    "efficientnet",
    "get_model",
    "idle",
    "list_models",
    "mobilenetv1",
    "mobilenetv2",
    "mobilenetv3",
    "mobilenext",
    "model_info",
    "register_model",
    "register_with_gluoncv",
    "sfr_shufflenetv2",
    "shufflenetv1",
    "shufflenetv2",
    "structure_units",
]
