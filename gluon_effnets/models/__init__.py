"""The networks, one file per family, and their registry."""

from . import (
    alexnet,
    condensenet,
    condensenetv2,
    dsnet,
    efficientnet,
    idle,
    mobilenetv1,
    mobilenetv2,
    mobilenetv3,
    mobilenext,
    sfr_shufflenetv2,
    shufflenetv1,
    shufflenetv2,
    slimmable_baselines,
    structure_units,
)
from .base import ClassificationNet, StageInfo
from .preprocessing import Preprocessing
from .registry import ModelInfo, get_model, list_models, model_info, register_model, register_with_gluoncv
from .slimmable import DynamicOutput, SlimmableNet
from .slimmable_views import SubNet

__all__ = [
    "ClassificationNet",
    "DynamicOutput",
    "ModelInfo",
    "Preprocessing",
    "SlimmableNet",
    "StageInfo",
    "SubNet",
    "alexnet",
    "dsnet",
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
    "slimmable_baselines",
    "structure_units",
]
