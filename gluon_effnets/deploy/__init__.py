"""Ways out of training: exported graphs and their speed."""

from .benchmark import Latency, measure_latency
from .symbol_files import ExportError, export, load_exported

__all__ = ["ExportError", "Latency", "export", "load_exported", "measure_latency"]
