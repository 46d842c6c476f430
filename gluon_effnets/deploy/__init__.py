"""Ways out of training: exported graphs and their speed."""

from .aligned import aligned
from .benchmark import Latency, initialize_lively, measure_latency
from .condense import condense
from .exported import ExportedNet, open_exported
from .exporter import ExportError, export
from .routing import RoutedOutput, Router
from .slimmable_files import RoutedFile, RoutedNet, export_routed, export_subnet, load_routed
from .symbol_files import load_exported

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
    "initialize_lively",
    "load_exported",
    "load_routed",
    "measure_latency",
    "open_exported",
]
