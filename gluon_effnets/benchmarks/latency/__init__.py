"""Latency, throughput and memory of networks across runtimes, each runtime in a process of its own."""

from .by_processor import add_run, measured_tables
from .measure import Settings, measure
from .networks import LATENCY_RUNTIMES
from .picture import draw_latency
from .tables import latency_tables, memory_table

__all__ = [
    "LATENCY_RUNTIMES",
    "Settings",
    "add_run",
    "draw_latency",
    "latency_tables",
    "measure",
    "measured_tables",
    "memory_table",
]
