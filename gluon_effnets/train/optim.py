"""Optimizers by name, with weight decay only where the recipe wants it."""

from __future__ import annotations

import difflib

import mxnet as mx

from .config import OptimizerSettings

__all__ = ["base_learning_rate", "make_optimizer"]

# Parameters that recipes leave without weight decay: biases, and gamma and beta of normalization layers.
_NO_DECAY = ("bias", "gamma", "beta")


class LargeBatchSGD(mx.optimizer.LBSGD):
    """LB-SGD with its first macro-batch right: MXNet's keeps a gradient buffer that the next backward overwrites."""

    def _cumulate_gradient(self, grad, index):
        return super()._cumulate_gradient(grad.copy(), index)


def make_optimizer(settings: OptimizerSettings, net, lr: float) -> mx.optimizer.Optimizer:
    """Make an optimizer for the parameters of `net`; any registered with MXNet, by its name there (nag, sgd, adam...).

    Raises ValueError for an unknown name or option.
    """
    known = {**mx.optimizer.Optimizer.opt_registry, "lbsgd": LargeBatchSGD}
    if settings.name.lower() not in known:
        near = ", ".join(difflib.get_close_matches(settings.name.lower(), known, 3, 0))
        raise ValueError(f"unknown optimizer.name {settings.name!r}; nearest: {near}")
    params = net.collect_params()
    if not settings.decay_all:
        for name, param in params.items():
            param.wd_mult = 0.0 if name.endswith(_NO_DECAY) else 1.0
    # LARS looks names up to leave BN and biases alone; a Trainer numbers the parameters in the order of their names.
    names = dict(enumerate(sorted(params.keys())))
    try:
        return known[settings.name.lower()](
            learning_rate=lr, wd=settings.weight_decay, param_idx2name=names, **settings.options
        )
    except TypeError as error:
        raise ValueError(f"optimizer.options of {settings.name}: {str(error).split(') ')[-1]}") from None


def base_learning_rate(settings: OptimizerSettings, global_batch: int) -> float:
    """The learning rate in force: `lr` for a batch of `lr_for_batch`, scaled linearly to the global batch."""
    return settings.lr * global_batch / settings.lr_for_batch if settings.lr_for_batch else settings.lr
