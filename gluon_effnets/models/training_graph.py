"""CompiledTraining: a hybridized network has a second graph, of compiled operators, for `autograd.record()`."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.contrib.amp import amp
from mxnet.gluon.block import HybridBlock

from .. import native
from ..nn.variants import compiled_variants, inference_variants

__all__ = ["CompiledTraining"]


class CompiledTraining(HybridBlock):
    """A block whose cached graph in training is another one than in evaluation.

    Gluon keeps one cached graph for all that a hybridized block does. Here calls that train in float32 on a CPU go to
    a graph of the operators of `gluon_effnets.native`, where these are compiled; all other calls, exports and graphs
    for a backend have MXNet's operators. Nothing else about a block changes.

    Attributes:
        trains_compiled: Whether a hybridized network trains with the compiled operators.
    """

    trains_compiled = True
    _has_trained = False
    # Gluon's own, of the graph in use.
    _cached_graph: Any
    _cached_op: Any
    _cached_op_args: Any

    def hybridize(self, active=True, backend=None, clear=True, *args, **kwargs):
        """As Gluon's; a graph for a backend such as oneDNN's is made anew, of the variants of inference."""
        super().hybridize(active, backend, clear or backend != self._backend, *args, **kwargs)

    def _get_graph(self, *args):
        with inference_variants(self._backend is not None):
            return super()._get_graph(*args)

    def _clear_cached_op(self):
        super()._clear_cached_op()
        self._for_training = (), None, []

    def _call_cached_op(self, *args):
        if autograd.is_recording():
            self._has_trained = True
        else:
            self._wait_for_statistics()
        if not self._trains_compiled(args[0]):
            return super()._call_cached_op(*args)
        with self._training_graph(), compiled_variants():
            return super()._call_cached_op(*args)

    def _wait_for_statistics(self) -> None:
        """Wait for a backward pass: MXNet's engine does not know that a static graph changes running statistics."""
        if self._has_trained:
            mx.nd.waitall()
            self._has_trained = False

    def save_parameters(self, filename, deduplicate=False):
        """As Gluon's, after the last backward pass."""
        mx.nd.waitall()
        super().save_parameters(filename, deduplicate)

    def _trains_compiled(self, x) -> bool:
        """Whether a call belongs to the graph of compiled operators: they are for training in float32 on a CPU."""
        if not (self.trains_compiled and autograd.is_recording() and autograd.is_training()) or self._backend:
            return False
        return x.context.device_type == "cpu" and x.dtype == np.float32 and not amp._amp_initialized and native.load()

    @contextlib.contextmanager
    def _training_graph(self) -> Iterator[None]:
        """Within it, the cached graph is that of training; what Gluon exports and evaluates is the other one."""
        ordinary = self._cached_graph, self._cached_op, self._cached_op_args
        self._cached_graph, self._cached_op, self._cached_op_args = self._for_training
        try:
            yield
            self._for_training = self._cached_graph, self._cached_op, self._cached_op_args
        finally:
            self._cached_graph, self._cached_op, self._cached_op_args = ordinary

    def export(self, path: str, epoch: int = 0, remove_amp_cast: bool = True) -> None:
        """As Gluon's, of a network that ran once, be it in training only."""
        mx.nd.waitall()
        if self._for_training[1] is not None and self._cached_op is None:
            self._build_cache(mx.sym.var("data"))
        super().export(path, epoch, remove_amp_cast)
