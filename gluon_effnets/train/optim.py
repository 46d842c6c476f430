"""Optimizers by name, our large-batch SGD among them, with weight decay only where the recipe wants it."""

from __future__ import annotations

import difflib

import mxnet as mx

from .config import OptimizerSettings
from .durations import to_updates
from .lb_sgd import VECTORS, LargeBatchSGD

__all__ = ["LargeBatchSGD", "base_learning_rate", "make_optimizer"]


class RepairedLBSGD(mx.optimizer.LBSGD):
    """MXNet's LBSGD with its first macro-batch right: the original keeps a buffer that the next backward overwrites."""

    def _cumulate_gradient(self, grad, index):
        return super()._cumulate_gradient(grad.copy(), index)


def make_optimizer(
    settings: OptimizerSettings, net, lr: float, updates_per_epoch: int = 0, total_updates: int = 0
) -> mx.optimizer.Optimizer:
    """Make an optimizer for the parameters of `net`: lb_sgd, or any of MXNet's by its name there (nag, sgd, adam...).

    The option warmup_updates may be a duration ('5ep'), for which the numbers of updates are needed.
    Raises ValueError for an unknown name or option.
    """
    known = {**mx.optimizer.Optimizer.opt_registry, "lbsgd": RepairedLBSGD}
    if settings.name.lower() not in known:
        near = ", ".join(difflib.get_close_matches(settings.name.lower(), known, 3, 0))
        raise ValueError(f"unknown optimizer.name {settings.name!r}; nearest: {near}")
    params = net.collect_params()
    if not settings.decay_all:
        for name, param in params.items():
            param.wd_mult = 0.0 if name.endswith(VECTORS) else 1.0
    # LARS looks names up to leave BN and biases alone; a Trainer numbers the parameters in the order of their names.
    names = dict(enumerate(sorted(params.keys())))
    options = {key: _number(value) for key, value in settings.options.items()}
    if isinstance(options.get("warmup_updates"), str):
        options["warmup_updates"] = to_updates(options["warmup_updates"], updates_per_epoch, total_updates)
    try:
        return known[settings.name.lower()](learning_rate=lr, wd=settings.weight_decay, param_idx2name=names, **options)
    except TypeError as error:
        raise ValueError(f"optimizer.options of {settings.name}: {str(error).split(') ')[-1]}") from None


def _number(value):
    """YAML 1.1 reads 1e-3 as a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def base_learning_rate(settings: OptimizerSettings, global_batch: int) -> float:
    """The learning rate in force: `lr` for a batch of `lr_for_batch`, scaled linearly to the global batch."""
    return settings.lr * global_batch / settings.lr_for_batch if settings.lr_for_batch else settings.lr
