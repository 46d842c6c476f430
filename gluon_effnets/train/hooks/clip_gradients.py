"""Gradient clipping by the global norm."""

from __future__ import annotations

import mxnet as mx

from ..multi_tensor import Scale
from .base import Hook

__all__ = ["ClipGradients"]


class ClipGradients(Hook):
    """Scale all gradients by min(1, max_norm / norm), norm being that of the mean gradient over the whole update."""

    def __init__(self, max_norm: float):
        if max_norm <= 0:
            raise ValueError(f"hooks.clip_gradients.max_norm is {max_norm}; it must be above 0")
        self.max_norm = max_norm

    def train_begin(self, state):
        params = state.net.collect_params().values()
        self._grads = [grad for param in params if param.grad_req != "null" for grad in param.list_grad()]
        self._scale = Scale(self._grads)

    def before_update(self, state):
        squares = mx.nd.multi_sum_sq(*self._grads, num_arrays=len(self._grads))
        norm = squares.sum().sqrt() * state.grad_scale
        # Stays on the device: no wait for the norm.
        self._scale(mx.nd.minimum(self.max_norm / (norm + 1e-12), 1.0))
