"""The networks, one file per family, and their registry."""

import importlib
import pkgutil

from .. import _mxnet  # noqa: F401  before all that needs it
from .base import ClassificationNet, StageInfo
from .card import Card
from .catalog import families, list_models, model_info, small_model
from .features import Backbone, FeatureInfo, FeatureMaps, FeatureNet
from .gluoncv_zoo import register_with_gluoncv
from .info import Deployment, ModelInfo
from .preprocessing import Preprocessing
from .registry import get_model, register_model
from .slimmable import DynamicOutput, SlimmableNet
from .slimmable_views import SubNet

__all__ = [
    "Backbone",
    "Card",
    "ClassificationNet",
    "Deployment",
    "DynamicOutput",
    "FeatureInfo",
    "FeatureMaps",
    "FeatureNet",
    "ModelInfo",
    "Preprocessing",
    "SlimmableNet",
    "StageInfo",
    "SubNet",
    "families",
    "get_model",
    "list_models",
    "model_info",
    "register_model",
    "register_with_gluoncv",
    "small_model",
]

# A network is registered as its file is imported: a new family is a new file and nothing else.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
