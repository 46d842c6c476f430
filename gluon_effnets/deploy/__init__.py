"""Ways out of training: files for MXNet, ONNX and TVM, networks cut at a gate, and graphs that run faster."""

from .. import _mxnet  # noqa: F401  before all that needs it
from ..models.condense import condense
from ..nn.init import initialize_like_trained
from ..timing import Latency
from .aligned.select import aligned
from .export import ExportError, export, export_routed, export_subnet
from .formats import ExportedNet, open_exported
from .routed.files import RoutedDetector, RoutedFile, RoutedNet, load_routed
from .routed.router import RoutedOutput, Router
from .routed.stages import StagedRouter
from .to_mxnet.files import load_exported
from .to_mxnet.variants import measure_latency

initialize_lively = initialize_like_trained  # as it was called first

__all__ = [
    "ExportError",
    "ExportedNet",
    "Latency",
    "RoutedDetector",
    "RoutedFile",
    "RoutedNet",
    "RoutedOutput",
    "Router",
    "StagedRouter",
    "aligned",
    "condense",
    "export",
    "export_routed",
    "export_subnet",
    "initialize_like_trained",
    "initialize_lively",
    "load_exported",
    "load_routed",
    "measure_latency",
    "open_exported",
]
