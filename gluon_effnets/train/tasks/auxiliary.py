"""Auxiliary: classification by a network of cells and by the auxiliary classifier at two thirds of its depth."""

from __future__ import annotations

from mxnet import autograd

from ...models.darts import AUXILIARY_SIDE, DartsNet
from ..losses import soft_cross_entropy, soft_targets
from .classification import Classification

__all__ = ["Auxiliary"]


class Auxiliary(Classification):
    """The loss is the network's, plus `weight` times that of its auxiliary classifier (DARTS, arXiv 1806.09055).

    Args:
        label_smoothing: Share of the target that goes to all classes alike.
        weight: Of the auxiliary loss.
    """

    def __init__(self, label_smoothing: float = 0.0, weight: float = 0.4):
        super().__init__(label_smoothing)
        if not weight >= 0:
            raise ValueError(f"task_options.weight is {weight}; it must be at least 0")
        self.weight = weight

    def prepare(self, state, hooks):
        if not isinstance(state.net, DartsNet) or state.net.auxiliary is None:
            raise ValueError(
                f"task auxiliary needs an auxiliary classifier, which {state.net.identity['model']} does not have: "
                "take a network of cells, such as cifar_darts_v2, with model_options.auxiliary=true"
            )
        side = -(-state.data.image_size // state.net.stage_info[-1].stride)
        if side < AUXILIARY_SIDE:
            least = AUXILIARY_SIDE * state.net.stage_info[-1].stride
            raise ValueError(
                f"data.image_size is {state.data.image_size}; the auxiliary classifier needs at least {least} pixels"
            )
        state.net.train_auxiliary()

    def step(self, state, batch, backward):
        target = soft_targets(batch.label, state.net.num_classes, self.label_smoothing)
        with autograd.record():
            own, auxiliary = (soft_cross_entropy(logits, target) for logits in state.net.with_auxiliary(batch.data))
            loss = own + self.weight * auxiliary
        backward(loss)
        return {"loss": own, "auxiliary_loss": auxiliary}
