"""What heads have in common: their answers anchor by anchor, and weights in the order in which classes are named."""

from __future__ import annotations

from typing import Sequence

import mxnet as mx
from mxnet.gluon import Parameter

__all__ = ["by_anchor", "reorder"]


def by_anchor(F, x, values: int):
    """Return what a map says, (N, anchors * values, H, W), anchor by anchor: (N, H * W * anchors, values)."""
    return F.reshape(F.transpose(x, axes=(0, 2, 3, 1)), shape=(0, -1, values))


def reorder(param: Parameter, order: Sequence[int], groups: int = 1) -> None:
    """Put the rows of a weight or bias into another order.

    Args:
        param: Its first axis has the classes of one group after another, and of every class as many rows.
        order: The class that every place gets, of those that there are now.
        groups: Such as the anchors of a position.
    """
    array = param.list_data()[0]
    places = mx.nd.array(order, dtype="int32", ctx=array.context)
    param.set_data(array.reshape((groups, len(order), -1)).take(places, axis=1).reshape(array.shape))
