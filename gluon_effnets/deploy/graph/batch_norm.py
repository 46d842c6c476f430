"""Batch normalization folded into the convolution before it: the one place that does this arithmetic."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

__all__ = ["Affine"]


class Affine(NamedTuple):
    """What BN does at inference: every channel times `scale` (C,) plus `shift` (C,), both in float64."""

    scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any]) -> Affine:
        """Read a BN operator.

        Parameters
        ----------
        values : gamma, beta, running mean and running variance, (C,) each.
        settings : of MXNet's operator, as values or as their text; with `fix_gamma`, its default, gamma counts as 1.
        """
        gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in values)
        if str(settings.get("fix_gamma", True)) in ("True", "true", "1"):
            gamma = np.ones_like(gamma)
        scale = gamma / np.sqrt(variance + float(settings.get("eps", 1e-3)))
        return cls(scale, beta - mean * scale)

    @classmethod
    def of_layer(cls, bn: nn.BatchNorm) -> Affine:
        """Read a layer of Gluon."""
        params = (bn.gamma, bn.beta, bn.running_mean, bn.running_var)
        return cls.of([param.data().asnumpy() for param in params], bn._kwargs)

    def folded(self, weight: np.ndarray, bias: Optional[np.ndarray] = None) -> Tuple[np.ndarray, np.ndarray]:
        """Return weight (C, in / groups, k, k) and bias (C,) of the convolution that has this BN in it, in float64."""
        shift = self.shift if bias is None else bias.astype(np.float64) * self.scale + self.shift
        return weight.astype(np.float64) * self.scale[:, None, None, None], shift

    def layer(self) -> nn.BatchNorm:
        """A layer of Gluon that does this, initialized on the CPU."""
        bn = nn.BatchNorm(epsilon=0, in_channels=len(self.scale))
        bn.initialize()
        bn.gamma.set_data(mx.nd.array(self.scale))
        bn.beta.set_data(mx.nd.array(self.shift))
        return bn
