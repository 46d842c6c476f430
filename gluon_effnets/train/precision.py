"""Precision: float32, or MXNet's automatic mixed precision (float16 on a GPU, bfloat16 on a CPU)."""

from __future__ import annotations

from typing import Dict, Optional, Union

import mxnet as mx
from mxnet.contrib.amp.loss_scaler import LossScaler

from .. import native
from .multi_tensor import all_finite
from .scalars import Scalars, read_together

__all__ = ["Precision", "Scaler"]

CHOICES = ("float32", "float16", "bfloat16")


class Scaler(LossScaler):
    """MXNet's dynamic loss scaler, which also counts the updates it skips, and waits for the device once per update."""

    # What a checkpoint keeps.
    fields = ("_loss_scale", "_next_loss_scale", "_unskipped", "skipped", "skipped_in_a_row")

    def __init__(self):
        super().__init__()
        self._next_loss_scale: float = self._loss_scale
        self.skipped = self.skipped_in_a_row = 0
        self.together = Scalars()  # read in the same wait

    def has_overflow(self, params) -> bool:
        """Look at the gradients, which are summed over the workers: all of these find the same."""
        grads = [grad for param in params if param.grad_req != "null" for grad in param.list_grad()]
        overflows, self.together = not read_together(all_finite(grads), self.together), Scalars()
        self._loss_scale = self._next_loss_scale
        if overflows:
            self._next_loss_scale, self._unskipped = self._loss_scale / 2, 0
            self.skipped, self.skipped_in_a_row = self.skipped + 1, self.skipped_in_a_row + 1
        else:
            self._unskipped, self.skipped_in_a_row = self._unskipped + 1, 0
        if self._unskipped == self._scale_seq_len:
            self._unskipped, self._next_loss_scale = 0, min(self._max_loss_scale, self._loss_scale * 2)
        return overflows


class Precision:
    """How forward and backward passes compute. Weights and optimizer states stay float32 in all of them.

    Mixed precision scales the loss dynamically: an update whose gradients overflow is skipped and the scale halved.
    bfloat16 on a CPU exists for testing: it is slower than float32 there (0.25 to 0.6 times the images/s).

    Automatic mixed precision changes MXNet's operators for the whole process; make this object before the network.

    Args:
        name: "float32", "float16" or "bfloat16".
        ctx: The device of the run.

    Raises:
        ValueError: An unknown name, float16 on a CPU, or bfloat16 on a GPU.
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
        self.scaler: Optional[Scaler] = None
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
            trainer._amp_loss_scaler = self.scaler = Scaler()

    def backward(self, loss, trainer: mx.gluon.Trainer) -> None:
        """Back-propagate a loss, scaled if need be; the trainer undoes the scale."""
        if not self._amp:
            loss.backward()
            return
        # Recorded, or the scaled loss would not be part of the graph.
        with mx.autograd.record(), self._amp.scale_loss(loss, trainer) as scaled:
            scaled.backward()

    def update(self, trainer: mx.gluon.Trainer, accumulate: int, scalars: Scalars) -> bool:
        """Let the trainer change the weights, unless gradients overflowed; return whether this waited for the device.

        Where it waits, these scalars are read, too.
        """
        if self.scaler:
            self.scaler.together = scalars
        trainer.update(accumulate)
        return self.scaler is not None

    def report(self) -> Dict[str, Union[int, float]]:
        """What logs tell of mixed precision: the loss scale, and how many updates were skipped; nothing of float32."""
        if self.scaler is None:
            return {}
        return {"loss_scale": self.scaler.loss_scale, "skipped_updates": self.scaler.skipped}
