"""The memory format of weights, which inference on a CPU changes."""

from __future__ import annotations

import ctypes

import mxnet as mx
from mxnet.gluon.block import Block

__all__ = ["restore_layout"]


def restore_layout(net: Block) -> None:
    """Put the parameters of a network that was used for inference back into the usual layout."""
    # On a CPU inference leaves the weights in oneDNN's own layout, and training puts them back whenever its engine
    # comes to it; until then updates round otherwise, and no two runs are equal. Asking for the address does it now.
    for param in net.collect_params().values():
        for array in param.list_data():
            mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(ctypes.c_void_p())))
