"""Joining, selecting and shuffling channels, in forms that train on a CPU and export."""

from __future__ import annotations

import numbers
from typing import Optional

from mxnet.gluon.block import HybridBlock

__all__ = ["ChannelShuffle", "check_divisors", "check_positive", "concat_channels", "select_channels"]


def check_positive(name: str, value: Optional[int]) -> None:
    """Raise ValueError if an option that counts something is given and is not a whole number of at least 1."""
    if value is not None and not (isinstance(value, numbers.Integral) and value >= 1):
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")


def check_divisors(what: str, channels: int, *divisors: int) -> None:
    """Raise ValueError unless groups or factors are whole numbers of at least 1 that divide a number of channels.

    Args:
        what: Name of these channels, for the error text: "inputs".
        channels: Their number.
        divisors: The groups and factors.
    """
    for divisor in divisors:
        check_positive(f"the number of groups, or the factor, of {channels} {what}", divisor)
        if channels % divisor:
            raise ValueError(
                f"{channels} {what}: not a multiple of {divisor} (groups and factors must divide the channels)"
            )


def concat_channels(F, left, right, *more, merged: bool = True):
    """Concatenate maps along their channels.

    Args:
        F: `mx.nd` or `mx.sym`, as `hybrid_forward` gets it.
        left: Map (N, C1, H, W).
        right: Map (N, C2, H, W).
        more: Further maps.
        merged: Whether the spatial axes are folded into one for the concatenation. The plain 4-D form cannot be trained
            on a CPU unless all numbers of channels are multiples of 16 (oneDNN: "could not construct a sub-memory"),
            but it is the one that ONNX can express.

    Returns:
        The map (N, C1 + C2 + ..., H, W).
    """
    maps = (left, right, *more)
    if not merged:
        return F.concat(*maps, dim=1)
    flat = F.concat(*(F.reshape(part, (0, 0, -3)) for part in maps), dim=1)
    return F.reshape_like(flat, left, lhs_begin=2, lhs_end=3, rhs_begin=2, rhs_end=4)


def select_channels(F, x, index, channels: int):
    """Select channels of a map in any order, one of them as often as it is named.

    Args:
        F: `mx.nd` or `mx.sym`, as `hybrid_forward` gets it.
        x: Map (N, `channels`, H, W).
        index: Numbers of the channels, (`selected`,), int32.
        channels: Number of channels of x.

    Returns:
        The map (N, `selected`, H, W).
    """
    # Selecting along the first axis copies whole maps; along the second one `take` is ten times as slow. So images and
    # channels become one axis.
    first = F.cast(F.contrib.arange_like(x, axis=0) * channels, "int32")
    rows = F.broadcast_add(F.expand_dims(first, 1), F.expand_dims(index, 0))
    return F.take(F.reshape(x, (-3, -2)), rows, axis=0)


class ChannelShuffle(HybridBlock):
    """Reorder channels (N, C, H, W) so that consecutive ones come from different groups.

    Args:
        channels: Number of channels C.
        groups: Number of groups; the channels are read as (groups, C / groups) and transposed.

    Raises:
        ValueError: If `groups` does not divide `channels`.

    Source: ShuffleNetV1, arXiv 1707.01083, figure 1.
    """

    def __init__(self, channels: int, groups: int = 2, **kwargs):
        super().__init__(**kwargs)
        check_divisors("channels to shuffle", channels, groups)
        self._shape = (0, groups, channels // groups, -1)

    def hybrid_forward(self, F, x):
        # Spatial axes merged: the fastest of the formulations, and the only one whose codes ONNX knows. `transpose` for
        # `swapaxes` costs the same, but cannot be trained on a CPU between two grouped convolutions (oneDNN: "could not
        # create a primitive descriptor for a reorder primitive").
        return F.reshape_like(F.swapaxes(F.reshape(x, self._shape), 1, 2), x)
