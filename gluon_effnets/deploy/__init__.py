"""Ways out of training: exported graphs and their speed."""

from .aligned import aligned
from .benchmark import Latency, compare_latency, initialize_lively, latency_table, measure_latency
from .symbol_files import ExportError, export, load_exported

__all__ = [
    "ExportError",
    "Latency",
    "aligned",
    "compare_latency",
    "export",
    "initialize_lively",
    "latency_table",
    "load_exported",
    "measure_latency",
]
