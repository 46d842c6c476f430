"""Architecture search: a space of networks, what scores them, and strategies that choose.

A new space is one file with a subclass of `Space`; strategies, journals, tables and pictures know no space.
"""

from .. import _mxnet  # noqa: F401  before all that needs it
from .correlation import partial_rank_correlation, rank_correlation
from .journal import Journal
from .space import Choice, Cost, Space
from .strategies import Evolution, enumerate_all, evolve

__all__ = [
    "Choice",
    "Cost",
    "Evolution",
    "Journal",
    "Space",
    "enumerate_all",
    "evolve",
    "partial_rank_correlation",
    "rank_correlation",
]
