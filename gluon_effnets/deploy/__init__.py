"""Ways out of training: exported graphs and their speed."""

from .aligned import aligned
from .benchmark import Latency, compare_latency, initialize_lively, latency_table, measure_latency
from .condense import condense
from .exported import ExportedNet, open_exported
from .exporter import ExportError, export
from .symbol_files import load_exported

__all__ = [
    "ExportError",
    "ExportedNet",
    "Latency",
    "aligned",
    "compare_latency",
    "condense",
    "export",
    "initialize_lively",
    "latency_table",
    "load_exported",
    "measure_latency",
    "open_exported",
]
