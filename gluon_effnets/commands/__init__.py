"""Parts of the command line: options of networks, `export`, what is compiled, and the comparisons of `benchmark`."""

from .benchmark import add_benchmarks
from .export import add_export
from .native import add_native
from .options import condensing_options, network_options, read_options
from .tvm import add_tvm

__all__ = [
    "add_benchmarks",
    "add_export",
    "add_native",
    "add_tvm",
    "condensing_options",
    "network_options",
    "read_options",
]
