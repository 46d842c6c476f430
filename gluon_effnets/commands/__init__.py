"""Parts of the command line: options of networks, and the comparisons of `benchmark`."""

from .benchmark import add_benchmarks
from .options import network_options, read_options

__all__ = ["add_benchmarks", "network_options", "read_options"]
