"""Precision: float32, or MXNet's automatic mixed precision (float16 on a GPU, bfloat16 on a CPU)."""

from __future__ import annotations

import mxnet as mx

from .. import native

__all__ = ["Precision"]

CHOICES = ("float32", "float16", "bfloat16")


class Precision:
    """How forward and backward passes compute. Weights and optimizer states stay float32 in all of them.

    float16 scales the loss dynamically: an update whose gradients overflow is skipped and the scale halved.
    bfloat16 on a CPU exists for testing: it is slower than float32 there (0.25 to 0.6 times the images/s).

    Automatic mixed precision changes MXNet's operators for the whole process; make this object before the network.
    Raises ValueError for an unknown name, float16 on a CPU, or bfloat16 on a GPU.
    """

    def __init__(self, name: str, ctx: mx.Context):
        self._ctx = ctx
        if name not in CHOICES:
            raise ValueError(f"precision is {name!r}; choose one of {', '.join(CHOICES)}")
        if name == "float16" and ctx.device_type != "gpu":
            raise ValueError(
                "precision float16 needs a GPU: MXNet has no float16 convolutions on a CPU.\n"
                "Use --set precision=float32 (or bfloat16, slow, to test mixed precision)."
            )
        if name == "bfloat16" and ctx.device_type == "gpu":
            raise ValueError(
                "precision bfloat16 is for a CPU, to test mixed precision: MXNet has no operators of it on a GPU.\n"
                "Use --set precision=float16, or float32."
            )
        self.name = name
        self._amp = None
        if name != "float32":
            from mxnet.contrib import amp

            amp.init(name)
            self._amp = amp

    @property
    def scales_loss(self) -> bool:
        """Whether gradients are those of a scaled loss."""
        return self._amp is not None

    @property
    def operators(self) -> str:
        """Whose operators a network trains with, "compiled" or "MXNet's": a run that changes them rounds otherwise."""
        compiled = self._ctx.device_type == "cpu" and self.name == "float32" and native.load()
        return "compiled" if compiled else "MXNet's"

    def prepare(self, trainer: mx.gluon.Trainer) -> None:
        """Give the trainer its loss scaler."""
        if self._amp:
            self._amp.init_trainer(trainer)

    def backward(self, loss, trainer: mx.gluon.Trainer) -> None:
        """Back-propagate a loss, scaled if need be; the trainer undoes the scale."""
        if not self._amp:
            loss.backward()
            return
        # Recorded, or the scaled loss would not be part of the graph.
        with mx.autograd.record(), self._amp.scale_loss(loss, trainer) as scaled:
            scaled.backward()
