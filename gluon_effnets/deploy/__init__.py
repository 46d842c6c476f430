"""Ways out of training: exported graphs and their speed."""

from .benchmark import Latency, initialize_lively, measure_latency
from .symbol_files import ExportError, export, load_exported

__all__ = ["ExportError", "Latency", "export", "initialize_lively", "load_exported", "measure_latency"]
