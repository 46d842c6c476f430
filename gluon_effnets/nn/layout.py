"""The memory layout of maps: oneDNN's blocks of 16 channels, or the plain one."""

from __future__ import annotations

__all__ = ["plain_layout"]


def plain_layout(F, x):
    """Bring an array into the plain memory layout, on a CPU; nothing happens elsewhere, and no number changes.

    oneDNN keeps maps in blocks of 16 channels. An operator that it does not compute brings each of its inputs back on
    its own, every time it is read; a reshape to the same shape does it once.

    Args:
        F: `mx.nd` or `mx.sym`, as `hybrid_forward` gets it.
        x: Array of any shape.
    """
    return F.reshape(x, (-2,))
