"""Parts of the command line: options of networks, `export`, and the comparisons of `benchmark`."""

from .benchmark import add_benchmarks
from .export import add_export
from .options import condensing_options, network_options, read_options
from .tvm import add_tvm

__all__ = ["add_benchmarks", "add_export", "add_tvm", "condensing_options", "network_options", "read_options"]
