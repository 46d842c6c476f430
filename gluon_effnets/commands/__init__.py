"""Parts of the command line: options of networks, `export`, and the comparisons of `benchmark`."""

from .benchmark import add_benchmarks
from .export import add_export
from .options import condensing_options, network_options, read_options

__all__ = ["add_benchmarks", "add_export", "condensing_options", "network_options", "read_options"]
