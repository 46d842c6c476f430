"""Optimizers by name: ours, MXNet's and those of others, with weight decay only where the recipe wants it."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

import mxnet as mx
from mxnet.gluon.block import Block

from .._foreign import is_foreign
from .config import OptimizerSettings
from .durations import to_updates
from .lb_sgd import VECTORS, LargeBatchSGD
from .parts import set_rates
from .registry import Registry
from .rmsprop_tf import RMSPropTF

__all__ = ["OPTIMIZERS", "LargeBatchSGD", "RMSPropTF", "base_learning_rate", "fields_of", "make_optimizer"]


class RepairedLBSGD(mx.optimizer.LBSGD):
    """MXNet's LBSGD with its first macro-batch right: the original keeps a buffer that the next backward overwrites."""

    def _cumulate_gradient(self, grad, index):
        return super()._cumulate_gradient(grad.copy(), index)


# Ours, before MXNet's. A class may have `durations`, names of options that a recipe may give as a duration ('5ep'), and
# `fields`, names of attributes that checkpoints must keep besides the states of the weights.
OPTIMIZERS: Dict[str, type] = {"lb_sgd": LargeBatchSGD, "lbsgd": RepairedLBSGD, "rmsprop_tf": RMSPropTF}

# So that a Trainer takes their names too; MXNet's register() would name them after their classes.
for _name, _class in OPTIMIZERS.items():
    mx.optimizer.Optimizer.opt_registry.setdefault(_name, _class)

# What MXNet's optimizers (all; LBSGD; Nadam; LARS) keep outside of the states of the weights.
_FIELDS_OF_MXNET = ("num_update", "_index_update_count", "cumgrads", "lbmult", "m_schedule", "cur_lr", "last_lr")


def fields_of(optimizer: mx.optimizer.Optimizer) -> Tuple[str, ...]:
    """Names of the attributes of an optimizer that change while it works, and that a checkpoint must hold."""
    names = (*_FIELDS_OF_MXNET, *getattr(optimizer, "fields", ()))
    return tuple(name for name in names if hasattr(optimizer, name))


def make_optimizer(
    settings: OptimizerSettings, net: Block, lr: float, updates_per_epoch: int = 0, total_updates: int = 0
) -> mx.optimizer.Optimizer:
    """Make an optimizer for the parameters of a network, whose factors of weight decay and of the rate are set.

    Args:
        settings: `name` is one of `OPTIMIZERS`, a name of MXNet's (nag, sgd, adam, ...) or 'module:Name'.
        net: The network.
        lr: Learning rate in force, see `base_learning_rate`.
        updates_per_epoch: Needed for options that are durations.
        total_updates: Likewise.

    Raises:
        ValueError: An unknown name or option, or a factor of the rate for what is not there.
    """
    known: Mapping[str, Any] = {**mx.optimizer.Optimizer.opt_registry, **OPTIMIZERS}
    registry = Registry("optimizer", known, mx.optimizer.Optimizer)
    name = settings.name if is_foreign(settings.name) else settings.name.lower()
    kind, options = registry.find(name), dict(settings.options)
    for option in getattr(kind, "durations", ()):
        if isinstance(options.get(option), str):
            options[option] = to_updates(options[option], updates_per_epoch, total_updates)
    params = net.collect_params()
    if not settings.decay_all:
        for param_name, param in params.items():
            param.wd_mult = 0.0 if param_name.endswith(VECTORS) else 1.0
    set_rates(net, settings.lr_factors)
    # LARS looks names up to leave BN and biases alone; a Trainer numbers the parameters in the order of their names.
    given = {"learning_rate": lr, "wd": settings.weight_decay, "param_idx2name": dict(enumerate(sorted(params.keys())))}
    return registry.make(name, options, f"optimizer.options of {settings.name}", **given)


def base_learning_rate(settings: OptimizerSettings, global_batch: int) -> float:
    """The learning rate in force: `lr` for a batch of `lr_for_batch`, scaled linearly to the global batch.

    Args:
        settings: Without `lr_for_batch` the rate is `lr` itself.
        global_batch: Images per update, of all workers.
    """
    return settings.lr * global_batch / settings.lr_for_batch if settings.lr_for_batch else settings.lr
