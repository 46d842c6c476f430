"""Which of several equal forms a layer takes: those that train fastest on a CPU, or the one that oneDNN fuses."""

from __future__ import annotations

import contextlib
import threading

import mxnet as mx

__all__ = ["compiled_forms", "compiled_forms_active", "inference_forms", "training_on_cpu"]

_thread = threading.local()


@contextlib.contextmanager
def inference_forms(active: bool = True):
    """Within it, networks are traced with the forms of inference, which exports and oneDNN's fused graphs have."""
    before = getattr(_thread, "inference", False)
    _thread.inference = active or before
    try:
        yield
    finally:
        _thread.inference = before


def training_on_cpu() -> bool:
    """Whether a layer takes the form that trains fastest on a CPU.

    So it does unless its graph is for inference, or the machine has a GPU. Both forms give the same numbers; what each
    gains is what `benchmark train` measures (docs/throughput.md).
    """
    return not getattr(_thread, "inference", False) and not mx.context.num_gpus()


@contextlib.contextmanager
def compiled_forms():
    """Within it, networks are traced with the operators of `gluon_effnets.native`: graphs for training alone."""
    before = compiled_forms_active()
    _thread.compiled = True
    try:
        yield
    finally:
        _thread.compiled = before


def compiled_forms_active() -> bool:
    """Whether a layer is being traced with the operators of `gluon_effnets.native`."""
    return getattr(_thread, "compiled", False)
