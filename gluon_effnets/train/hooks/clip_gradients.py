"""Gradient clipping by the global norm."""

from __future__ import annotations

import mxnet as mx

from .base import Hook

__all__ = ["ClipGradients"]


class ClipGradients(Hook):
    """Scale all gradients by min(1, max_norm / norm), norm being that of the mean gradient over the whole update."""

    def __init__(self, max_norm: float):
        if max_norm <= 0:
            raise ValueError(f"hooks.clip_gradients.max_norm is {max_norm}; it must be above 0")
        self.max_norm = max_norm

    def before_update(self, state):
        params = state.net.collect_params().values()
        grads = [grad for param in params if param.grad_req != "null" for grad in param.list_grad()]
        squares = mx.nd.multi_sum_sq(*grads, num_arrays=len(grads))
        norm = squares.sum().sqrt() * state.grad_scale
        # Stays on the device: no wait for the norm.
        factor = mx.nd.minimum(self.max_norm / (norm + 1e-12), 1.0)
        for grad in grads:
            mx.nd.broadcast_mul(grad, factor.reshape((1,) * grad.ndim), out=grad)
