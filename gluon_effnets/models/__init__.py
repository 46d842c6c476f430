"""The networks, one file per family, and their registry."""

from . import efficientnet, idle, mobilenetv2, mobilenetv3, mobilenext, shufflenetv1, shufflenetv2
from .base import ClassificationNet, StageInfo
from .registry import ModelInfo, get_model, list_models, model_info, register_model, register_with_gluoncv

__all__ = [
    "ClassificationNet",
    "ModelInfo",
    "StageInfo",
    "efficientnet",
    "get_model",
    "idle",
    "list_models",
    "mobilenetv2",
    "mobilenetv3",
    "mobilenext",
    "model_info",
    "register_model",
    "register_with_gluoncv",
    "shufflenetv1",
    "shufflenetv2",
]
