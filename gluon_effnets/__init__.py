"""gluon_effnets: efficient image-recognition networks on Apache MXNet/Gluon."""

__version__ = "0.1.0"

from ._requirements import end_command, require_mxnet

try:
    require_mxnet()
except ImportError as error:
    end_command(error)
    raise

from .models import get_model, list_models, model_info, register_with_gluoncv  # noqa: E402

__all__ = ["__version__", "get_model", "list_models", "model_info", "register_with_gluoncv"]
