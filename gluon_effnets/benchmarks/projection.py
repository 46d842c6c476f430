"""What the exchange of gradients leaves of the throughput of many workers: a projection, never a measurement."""

from __future__ import annotations

from typing import List, Sequence

from ..tables import Table

__all__ = ["project", "projection_table", "ring_bits"]

GIGABITS = (10, 25, 100)


def ring_bits(num_bytes: int, workers: int) -> float:
    """Bits that every worker sends, and receives, in a ring allreduce of `num_bytes`: 2 (N - 1) / N of them."""
    return 8 * 2 * (workers - 1) / workers * num_bytes


def project(
    num_bytes: int,
    compute_ms: float,
    workers: int = 64,
    gigabits: Sequence[float] = GIGABITS,
    latency_us: float = 0.0,
) -> List[dict]:
    """Part of the ideal throughput that `workers` keep when they exchange `num_bytes` of gradients per update.

    A ring allreduce sends 2 (N - 1) / N of the volume over every link, in 2 (N - 1) rounds of `latency_us` each. With
    c = `compute_ms` of an update on one worker and t the time of the exchange, the efficiency lies between c / (c + t),
    where nothing overlaps, and c / max(c, t), where all does. Left out: stragglers and links shared with others.

    Raises ValueError unless volume, times, bandwidths and number are positive (the latency may be 0).
    """
    if min(num_bytes, compute_ms, workers, *gigabits) <= 0 or latency_us < 0:
        raise ValueError("volume, compute time, workers and bandwidths must be positive, the latency not negative")
    rows = []
    for rate in gigabits:
        exchange_ms = ring_bits(num_bytes, workers) / (rate * 1e6) + 2 * (workers - 1) * latency_us * 1e-3
        rows.append(
            {
                "workers": workers,
                "gbit_per_s": rate,
                "compute_ms": compute_ms,
                "exchange_ms": exchange_ms,
                "no_overlap": compute_ms / (compute_ms + exchange_ms),
                "full_overlap": compute_ms / max(compute_ms, exchange_ms),
            }
        )
    return rows


def projection_table(rows: Sequence[dict]) -> str:
    """The rows of `project` as a Markdown table: efficiency without and with full overlap."""
    keys = ("workers", "gbit_per_s", "compute_ms", "exchange_ms")
    columns = ["workers", ("Gbit/s", "g"), ("compute, ms", "g"), ("exchange, ms", ".1f")]
    lines = [(*(row[key] for key in keys), f"{row['no_overlap']:.1%} ... {row['full_overlap']:.1%}") for row in rows]
    return Table([*columns, "efficiency (no overlap ... full)"], lines).markdown()
