"""Ways out of training: exported graphs and their speed."""

from ..models.condense import condense
from ..nn.init import initialize_like_trained
from ..timing import Latency
from .aligned.select import aligned
from .description import ExportedNet, open_exported
from .export import ExportError, export
from .routed.files import RoutedFile, RoutedNet, export_routed, export_subnet, load_routed
from .routed.router import RoutedOutput, Router
from .to_mxnet.blocks import measure_latency
from .to_mxnet.files import load_exported

initialize_lively = initialize_like_trained  # as it was called first

__all__ = [
    "ExportError",
    "ExportedNet",
    "Latency",
    "RoutedFile",
    "RoutedNet",
    "RoutedOutput",
    "Router",
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
