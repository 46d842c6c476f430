"""Learned group convolution and sparse feature reactivation in training form: a dense weight times a learned mask."""

from __future__ import annotations

from typing import Dict, List

import mxnet as mx
import numpy as np
from mxnet.gluon.block import Block, HybridBlock

from .activations import make_activation
from .channels import check_divisors
from .compiled import norm_act
from .conv import Norm
from .dropout import Dropout

__all__ = ["LearnedGroupConv", "MaskedConv", "SparseFeatureReactivation", "masked_layers"]

# Below this the group lasso is constant (the authors' code; CondenseNet).
LASSO_FLOOR = 1e-6


class MaskedConv(HybridBlock):
    """BN -> activation [-> dropout] -> 1x1 convolution whose weight is multiplied by a mask; no bias.

    The mask, a Parameter (groups, `prunable`) without gradient, starts at 1 and is all there is to the state of the
    pruning: each `drop` takes prunable / factor of every group away, those of least importance, until after factor - 1
    drops the share 1 / factor is left. Dropped weights get no gradient, are not rescaled, and keep their stale values
    in files; only weight times mask means something.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        prunable: What every group can drop: inputs or outputs.
        groups: Of the mask.
        factor: By which each group is pruned.
        act: Activation behind BN.
        dropout: Probability before the weights.
        norm: How the BN layer is made.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        prunable: int,
        *,
        groups: int,
        factor: int,
        act: str = "relu",
        dropout: float = 0.0,
        norm: Norm = Norm(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.groups, self.factor, self.channels = groups, factor, channels
        with self.name_scope():
            self.bn = norm(in_channels)
            self.act = make_activation(act)
            self.dropout = Dropout(dropout) if dropout else None
            self.weight = self.params.get("weight", shape=(channels, in_channels, 1, 1))
            self.mask = self.params.get("mask", shape=(groups, prunable), init=mx.init.One(), grad_req="null")

    @property
    def kept(self) -> int:
        """What is left in each group."""
        return int(self.mask.data().asnumpy()[0].sum())

    @property
    def stage(self) -> int:
        """Number of drops done, 0..factor - 1."""
        return (self.mask.shape[1] - self.kept) // self._quota

    @property
    def finished(self) -> bool:
        """Whether every group is down to its last share."""
        return self.stage == self.factor - 1

    @property
    def _quota(self) -> int:
        return self.mask.shape[1] // self.factor

    def masked_weight(self) -> np.ndarray:
        """weight x mask, (channels, in_channels)."""
        return self._times_mask(mx.nd, self.weight.data(), self.mask.data()).asnumpy()[:, :, 0, 0]

    def importance(self) -> np.ndarray:
        """L1 norm of each group's weights, (groups, prunable), in float64: near-ties exist that float32 would flip."""
        return self._grouped(np.abs(self.masked_weight().astype(np.float64)))

    def drop(self) -> None:
        """Take the next quota of every group away.

        Raises:
            ValueError: If the layer is finished.
        """
        if self.finished:
            raise ValueError(f"{self.name} is pruned to 1/{self.factor} already")
        mask = self.mask.data().asnumpy()
        # What is dropped has importance 0 and would come first.
        order = np.argsort(np.where(mask == 0, np.inf, self.importance()), axis=1, kind="stable")
        np.put_along_axis(mask, order[:, : self._quota], 0, axis=1)
        self.mask.set_data(mx.nd.array(mask))

    def lasso_gradient(self) -> mx.nd.NDArray:
        """Gradient, shaped like the weight, of the group lasso: the sum over groups and inputs of sqrt(sum of squares).

        (CondenseNet, section 3.1, "group lasso"; there the groups that share an input are pushed to zero together.)
        """
        weight, mask = self.weight.data(), self.mask.data()
        masked = self._times_mask(mx.nd, weight, mask)
        squares = self._grouped(mx.nd.square(masked).reshape((0, 0)))
        inverse = (squares > LASSO_FLOOR) / mx.nd.sqrt(mx.nd.maximum(squares, LASSO_FLOOR))
        return self._times_mask(mx.nd, masked, inverse)

    def lasso(self) -> float:
        """Value of the group lasso. A dropped pair counts as the constant sqrt(1e-6)."""
        squares = self._grouped(np.square(self.masked_weight().astype(np.float64)))
        return float(np.sqrt(np.maximum(squares, LASSO_FLOOR)).sum())

    def hybrid_forward(self, F, x, weight, mask):
        x = norm_act(F, self.bn, self.act, x)
        if self.dropout is not None:
            x = self.dropout(x)
        return F.Convolution(
            x, self._times_mask(F, weight, mask), kernel=(1, 1), num_filter=self.channels, no_bias=True
        )

    def _times_mask(self, F, weight, mask):
        raise NotImplementedError

    def _grouped(self, values):
        """Sum `values`, (channels, in_channels), over the weights that are dropped together: (groups, prunable)."""
        raise NotImplementedError


class LearnedGroupConv(MaskedConv):
    """CondenseNet's learned group convolution: (N, in_channels, H, W) -> (N, channels, H, W).

    Output row o belongs to group o mod G; every group learns which in_channels / C inputs it keeps. The interleaved
    groups are a channel shuffle: none follows.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        groups: G.
        factor: C.
        kwargs: Further arguments of `MaskedConv`.

    Raises:
        ValueError: For channels that groups or factor do not divide.

    Source: CondenseNet, arXiv 1711.09224, section 3.
    """

    def __init__(self, in_channels: int, channels: int, *, groups: int, factor: int, **kwargs):
        check_divisors("inputs", in_channels, groups, factor)
        check_divisors("outputs", channels, groups)
        super().__init__(in_channels, channels, in_channels, groups=groups, factor=factor, **kwargs)
        self._rows = (channels // groups, groups, in_channels)

    def _times_mask(self, F, weight, mask):
        product = F.broadcast_mul(F.reshape(weight, self._rows), F.expand_dims(mask, axis=0))
        return F.reshape(product, (self.channels, self._rows[2], 1, 1))

    def _grouped(self, values):
        return values.reshape(self._rows).sum(axis=0)


class SparseFeatureReactivation(MaskedConv):
    """CondenseNetV2's module that turns new features into an update of old ones: (N, in, H, W) -> (N, channels, H, W).

    Input column i belongs to group i mod G; every group learns which channels / S outputs it updates. What no group
    keeps is not reactivated. The sum with the old features is the caller's.

    Args:
        in_channels: Channels of the new features.
        channels: Channels of the old features.
        groups: G.
        factor: S.
        kwargs: Further arguments of `MaskedConv`.

    Raises:
        ValueError: For channels that groups or factor do not divide.

    Source: CondenseNetV2, arXiv 2104.04382, section 3.3.
    """

    def __init__(self, in_channels: int, channels: int, *, groups: int, factor: int, **kwargs):
        check_divisors("inputs", in_channels, groups)
        check_divisors("outputs", channels, groups, factor)
        super().__init__(in_channels, channels, channels, groups=groups, factor=factor, **kwargs)
        self._columns = (channels, in_channels // groups, groups)

    def _times_mask(self, F, weight, mask):
        product = F.broadcast_mul(F.reshape(weight, self._columns), F.expand_dims(F.transpose(mask), axis=1))
        return F.reshape(product, (self.channels, self._columns[1] * self.groups, 1, 1))

    def _grouped(self, values):
        return values.reshape(self._columns).sum(axis=1).T


def masked_layers(net: Block) -> Dict[str, MaskedConv]:
    """Find the layers of a network that can be pruned.

    Args:
        net: Any block.

    Returns:
        {path in the network: layer}, in the order of the forward pass; empty for networks without such layers.
    """
    found: Dict[str, MaskedConv] = {}

    def walk(block: Block, path: List[str]) -> None:
        if isinstance(block, MaskedConv):
            found[".".join(path)] = block
        for name, child in block._children.items():
            walk(child, [*path, name])

    walk(net, [])
    return found
