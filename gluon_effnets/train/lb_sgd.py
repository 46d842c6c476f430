"""Large-batch SGD, `lb_sgd`: the warm-up strategies and LARS of MXNet's LBSGD without its faults (docs/lbsgd.md)."""

from __future__ import annotations

import logging
import math
import sys
from typing import Sequence

import mxnet as mx

from .multi_tensor import groups, sums_of_squares

__all__ = ["VECTORS", "LargeBatchSGD"]

log = logging.getLogger(__name__)

# Biases, and gamma and beta of normalization layers: recipes leave them without weight decay, LARS without its factor.
VECTORS = ("bias", "gamma", "beta")

_WARMUPS = {"linear": lambda part: part, "power2": lambda part: part * part, "sqrt": math.sqrt}

_UPDATE = {  # by (momentum, float32 master weights)
    (False, False): mx.nd.preloaded_multi_sgd_update,
    (True, False): mx.nd.preloaded_multi_sgd_mom_update,
    (False, True): mx.nd.preloaded_multi_mp_sgd_update,
    (True, True): mx.nd.preloaded_multi_mp_sgd_mom_update,
}
# Of a group of arrays in one update kernel; with momentum, smaller ones than of an average are fastest on a CPU.
_GROUP_ELEMENTS = 300_000
# Weights that move further in one update learn nothing, and nothing becomes NaN to show it.
_LARGEST_STEP = 0.1


class LargeBatchSGD(mx.optimizer.SGD):
    """SGD with momentum whose rate is warmed up to a large batch, or adapted to every layer (LARS). Name: `lb_sgd`.

    The strategies are those of MXNet's LBSGD; docs/lbsgd.md compares the two. With the gradient g (rescaled, clipped):

        momentum_buffer = momentum * momentum_buffer + lr * factor * (g + wd * weight)
        weight = weight - momentum_buffer

    `linear`, `power2`, `sqrt`: lr is the rate of the small batch, the factor rises from 1 to `batch_scale` (large
    batch / small batch) over the first `warmup_updates` updates n, by n, its square or its square root, and stays.
    `lars`: the factor of a weight is eta * clip(|weight| / sqrt(|g|^2 + wd * |weight|^2), 0.01, 100) throughout, with
    its gradient before clipping; names that end in bias, gamma or beta have the factor 1. eta=1 is MXNet's formula, so
    that lr is the step relative to the weight (about 0.001 to 0.01); a rate meant for SGD needs an eta of about 0.001.

    An infinite or NaN gradient passes into its weight, as in SGD. Under `lars` a NaN reaches the whole array.
    Gradients must be dense.

    Args:
        momentum: At least 0 and below 1.
        warmup_strategy: One of the above.
        batch_scale: Large batch / small batch, at least 1.
        warmup_updates: In a recipe also a duration ('5ep').
        eta: Above 0, for `lars` alone.
        kwargs: Of every optimizer of MXNet: learning_rate, wd, rescale_grad, clip_gradient, multi_precision.

    Raises:
        ValueError: Options are out of range or have no effect together.
    """

    durations = ("warmup_updates",)

    def __init__(
        self,
        momentum: float = 0.0,
        warmup_strategy: str = "linear",
        batch_scale: float = 1.0,
        warmup_updates: int = 0,
        eta: float = 1.0,
        **kwargs,
    ):
        super().__init__(momentum=momentum, lazy_update=False, **kwargs)
        self.warmup_strategy, self.batch_scale = warmup_strategy, batch_scale
        self.warmup_updates, self.eta = warmup_updates, eta
        # All arrays of a device come in one call; `_groups` divides them.
        self.aggregate_num = sys.maxsize
        self._check_options()
        if warmup_strategy == "lars" and self.learning_rate * eta > _LARGEST_STEP:
            log.warning(
                "LARS with lr * eta = %g moves weights by up to that share of their norm in every update.\n"
                "Training needs about 0.001 to 0.02: set optimizer.options.eta.",
                self.learning_rate * eta,
            )

    def _check_options(self) -> None:
        if self.warmup_strategy not in (*_WARMUPS, "lars"):
            choices = ", ".join((*_WARMUPS, "lars"))
            raise ValueError(f"unknown warmup_strategy {self.warmup_strategy!r}; choose one of {choices}")
        for name, valid, rule in (
            ("momentum", 0 <= self.momentum < 1, "at least 0 and below 1"),
            ("batch_scale", 1 <= self.batch_scale < math.inf, "at least 1 (large batch / small batch)"),
            ("warmup_updates", self.warmup_updates >= 0, "at least 0"),
            ("eta", 0 < self.eta < math.inf, "above 0"),
        ):
            if not valid:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {rule}")
        if self.warmup_strategy == "lars" and (self.batch_scale != 1 or self.warmup_updates):
            raise ValueError("warmup_strategy lars has no batch_scale or warmup_updates; warm up with schedule.warmup")
        if self.warmup_strategy != "lars" and self.eta != 1:
            raise ValueError(f"eta has an effect with warmup_strategy lars only, not {self.warmup_strategy}")
        if self.warmup_updates and self.batch_scale == 1:
            raise ValueError("warmup_updates leads from lr to batch_scale * lr: set batch_scale or use schedule.warmup")

    def warmup_factor(self, number: int) -> float:
        """Factor of the rate in the update `number` (from 1), of all strategies but `lars`."""
        if number >= self.warmup_updates:
            return float(self.batch_scale)
        return 1.0 + (self.batch_scale - 1.0) * _WARMUPS[self.warmup_strategy](number / self.warmup_updates)

    def _is_adapted(self, index: int) -> bool:
        param = self.param_dict.get(index)
        name = param.name if param is not None else self.idx2name.get(index, "")
        return self.warmup_strategy == "lars" and not name.endswith(VECTORS)

    def _update_impl(self, indices, weights, grads, states, multi_precision=False):
        if not isinstance(indices, (tuple, list)):
            indices, weights, grads, states = [indices], [weights], [grads], [states]
        self._update_count(indices)
        # Adapted arrays first, smallest first: so they are one slice of the rates, and groups are of like sizes.
        adapted = [self._is_adapted(index) for index in indices]
        order = sorted(range(len(indices)), key=lambda i: (not adapted[i], weights[i].size))
        indices, weights, grads, states = ([part[i] for i in order] for part in (indices, weights, grads, states))
        momenta, masters = zip(*states) if multi_precision else (states, weights)

        # num_update, not the array's own count: an array that was frozen until now joins the others where they are.
        factor = 1.0 if self.warmup_strategy == "lars" else self.warmup_factor(self.num_update)
        ctx = weights[0].context
        lrs = mx.nd.array([lr * factor for lr in self._get_lrs(indices)], ctx=ctx, dtype="float32")
        wds = mx.nd.array(self._get_wds(indices), ctx=ctx, dtype="float32")
        if any(adapted):
            num = sum(adapted)
            adapted_lrs = lrs[:num]  # shares the memory of lrs
            adapted_lrs *= self._lars(masters[:num], grads[:num], wds[:num])

        columns = [weights, grads]
        columns += [momenta] if self.momentum else []
        columns += [masters] if multi_precision else []
        update = _UPDATE[bool(self.momentum), multi_precision]
        options = {"momentum": self.momentum} if self.momentum else {}
        if self.clip_gradient:
            options["clip_gradient"] = self.clip_gradient
        for group in groups([weight.size for weight in weights], _GROUP_ELEMENTS):
            arrays = [array for row in zip(*(column[group] for column in columns)) for array in row]
            out = weights[group]
            update(*arrays, lrs[group], wds[group], out=out, num_weights=len(out), rescale_grad=self.rescale_grad,
                   **options)  # fmt: skip

    def _lars(self, weights: Sequence, grads: Sequence, wds: mx.nd.NDArray) -> mx.nd.NDArray:
        """The factors of arrays in ascending order of size, computed on their device without waiting for it."""
        weight_squares, grad_squares = sums_of_squares(weights), sums_of_squares(grads)
        # 1e-18 as in MXNet: a weight and a gradient of 0 have the factor 0.01, not NaN.
        squares = grad_squares * self.rescale_grad**2 + wds * weight_squares + 1e-18
        return mx.nd.clip(mx.nd.sqrt(weight_squares / squares), 0.01, 100) * self.eta
