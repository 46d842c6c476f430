"""Gate: the slimming heads of a trained slimmable network learn which width an image needs."""

from __future__ import annotations

from typing import Optional

import mxnet as mx
from mxnet import autograd

from ...nn import gumbel_noise
from ..losses import soft_cross_entropy, soft_targets
from ..memory_format import Layout
from .base import Task
from .width_scores import is_easy, require_slimmable, route_sums, width_sums

__all__ = ["Gate"]

TARGETS = ("sgs", "gumbel", "none")


class Gate(Task):
    """Trains the slimming heads alone; every other parameter and all statistics stay as they are, bit for bit.

    The loss is cross-entropy of the routed network + gate_weight * that of the gates with their targets
    + madds_weight * (mean multiply-adds / 1e9)^2 (DS-Net, arXiv 2103.13258, section 3.3). It runs in the masked form.

    Args:
        targets: 'sgs' (sandwich gate sparsification): an image that the slimmest candidate gets right is easy, and
            its gates learn to choose that candidate; those of all other images learn to choose the widest. 'gumbel'
            and 'none' have no targets: the gates learn from the other two terms, with or without Gumbel noise.
        noise: Whether Gumbel noise is added to the gates' logits in training; null: for 'gumbel' alone. DS-Net's code
            adds it always, in evaluations too, which here have none.
        label_smoothing: Of labels and of gates' targets.
        gate_weight, madds_weight: See above.
        softmax_twice: The gates' loss takes the softmax of their softmax, as DS-Net's code does.
    """

    moves_statistics = False

    def __init__(
        self,
        targets: str = "sgs",
        noise: Optional[bool] = None,
        label_smoothing: float = 0.0,
        gate_weight: float = 1.0,
        madds_weight: float = 0.5,
        softmax_twice: bool = False,
    ):
        if targets not in TARGETS:
            raise ValueError(f"task_options.targets is {targets!r}; choose one of {', '.join(TARGETS)}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"task_options.label_smoothing is {label_smoothing}; it must be in [0, 1)")
        for name, weight in (("gate_weight", gate_weight), ("madds_weight", madds_weight)):
            if weight < 0:
                raise ValueError(f"task_options.{name} is {weight}; it must be at least 0")
        self.targets, self.noise = targets, targets == "gumbel" if noise is None else noise
        self.label_smoothing, self.softmax_twice = label_smoothing, softmax_twice
        self.gate_weight, self.madds_weight = gate_weight, madds_weight

    def prepare(self, state, hooks):
        require_slimmable(state.net, "task gate", gates=True)
        state.net.collect_params().setattr("grad_req", "null")
        state.net.gates.collect_params().setattr("grad_req", "write")
        # With memory that is allocated once, MXNet gives gates gradients of what was in it before.
        state.net.hybridize()
        self._layout = Layout(state.net)

    def step(self, state, batch, backward):
        net, shape = state.net, (len(batch.data), state.net.num_choices, state.net.gating.num_candidates)
        noise = gumbel_noise(shape, batch.data.context) if self.noise else None
        wanted = self._gate_targets(net, batch) if self.targets == "sgs" else None
        labels = soft_targets(batch.label, net.num_classes, self.label_smoothing)
        scalars = {}
        with autograd.record():
            out = net.dynamic(batch.data, noise)
            loss = scalars["loss_task"] = soft_cross_entropy(out.logits, labels)
            if wanted is not None:
                gates = mx.nd.softmax(out.gate_logits) if self.softmax_twice else out.gate_logits
                # Gates are counted like images: the mean over both.
                scalars["loss_gate"] = soft_cross_entropy(gates.reshape((-1, shape[2])), wanted)
                loss = loss + self.gate_weight * scalars["loss_gate"]
            madds = out.madds.mean()
            loss = loss + self.madds_weight * (madds / 1e9) ** 2
        backward(loss)
        return {"loss": loss, **scalars, "madds": madds}

    def _gate_targets(self, net, batch) -> mx.nd.NDArray:
        """(N * gates, candidates), the images one after the other."""
        classes = batch.label.argmax(axis=1) if batch.label.ndim == 2 else batch.label
        with autograd.predict_mode():
            easy = is_easy(net, batch.data, classes)
        self._layout.restore()
        last = net.gating.num_candidates - 1
        wanted = mx.nd.repeat((1 - easy) * last, net.num_choices)
        return soft_targets(wanted, last + 1, self.label_smoothing)

    def evaluate(self, state, batch):
        sums = route_sums(state.net, batch)
        if state.update == state.total_updates:
            # What the gates chose from: it stays as it is, so that once is enough.
            of_widths = width_sums(state.net, batch, range(state.net.num_widths))
            sums.update({key: value for key, value in of_widths.items() if key.startswith("top1_")})
        return sums
