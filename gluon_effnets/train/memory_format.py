"""The memory format of weights, which inference on a CPU changes."""

from __future__ import annotations

import ctypes
from typing import List

import mxnet as mx
from mxnet.gluon.block import Block

__all__ = ["Layout", "restore_layout"]


class Layout:
    """The usual memory layout of the parameters of a network, which is walked through once.

    Args:
        net: Its parameters must stay the same objects.
    """

    def __init__(self, net: Block):
        arrays = [array for param in net.collect_params().values() for array in param.list_data()]
        # Inference on another device, or without oneDNN, leaves the weights as they are.
        changes = mx.runtime.Features().is_enabled("MKLDNN")
        self._arrays: List[mx.nd.NDArray] = [a for a in arrays if changes and a.context.device_type == "cpu"]

    def restore(self) -> None:
        """Put the parameters of a network that was used for inference back into the usual layout."""
        # On a CPU inference leaves the weights in oneDNN's own layout, and training puts them back whenever its engine
        # comes to it; until then updates round otherwise, and no two runs are equal. Asking for the address does it.
        for array in self._arrays:
            mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(ctypes.c_void_p())))


def restore_layout(net: Block) -> None:
    """As `Layout(net).restore()`, for a network that is used for inference now and then."""
    Layout(net).restore()
