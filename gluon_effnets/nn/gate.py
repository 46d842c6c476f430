"""DS-Net's double-headed gate, and units whose width every sample of a batch chooses: masks instead of slices.

This is the form in which gates are trained (DS-Net, section 3.3, and the authors' code): all samples run at the widest
candidate, and what a sample's one-hot choice leaves out is multiplied by 0 behind every convolution and BN layer.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .activations import make_activation
from .conv import ConvBN
from .se import SqueezeExcite, scale_channels
from .shortcut import add_shortcut
from .slimmable import (
    BottleneckUnit,
    ChannelGroupNorm,
    SeparableUnit,
    SlicedConv2D,
    SlicedConvBN,
    SlicedSqueezeExcite,
    WidthStatistics,
    share,
    sliced_norm,
)

__all__ = ["DoubleHeadedGate", "SlimmingHead", "channel_count", "gumbel_noise", "masked_unit", "straight_through"]

Widths = Sequence[int]  # of the candidates, ascending; a single one: nothing to choose


def gumbel_noise(shape: Tuple[int, ...], ctx: Optional[mx.Context] = None) -> mx.nd.NDArray:
    """Draw samples of the Gumbel(0, 1) distribution: added to gate logits they make argmax a random draw.

    Args:
        shape: Of the result.
        ctx: Where the samples are drawn.

    Source: DS-Net, arXiv 2103.13258, section 3.3.
    """
    return -mx.nd.log(mx.nd.random.exponential(1.0, shape=shape, ctx=ctx))


def straight_through(F, logits):
    """One-hot of the largest of (N, K) logits, whose gradient is that of their softmax (temperature 1)."""
    soft = F.softmax(logits, axis=1)
    numbers = F.reshape(F.contrib.arange_like(logits, axis=1), (1, -1))
    hard = F.broadcast_equal(F.argmax(logits, axis=1, keepdims=True), numbers)
    return F.BlockGrad(hard - soft) + soft


def channel_count(F, choice, widths: Widths):
    """(N, K) one-hot -> (N, 1) number of channels."""
    return F.add_n(*[_candidate(F, choice, k) * width for k, width in enumerate(widths)])


def channel_mask(F, choice, widths: Widths):
    """(N, K) one-hot -> (N, widths[-1], 1, 1): 1 for the channels of the chosen width."""
    parts, above = [], None
    for k in reversed(range(len(widths))):
        # Channels behind the next smaller width belong to this candidate and those above.
        chosen = _candidate(F, choice, k)
        above = chosen if above is None else above + chosen
        size = widths[k] - (widths[k - 1] if k else 0)
        parts.append(F.broadcast_axis(above, axis=1, size=size))
    return F.reshape(F.concat(*reversed(parts), dim=1), (0, 0, 1, 1))


def _candidate(F, choice, k: int):
    return F.slice_axis(choice, axis=1, begin=k, end=k + 1)


class SlimmingHead(HybridBlock):
    """Logits of the candidate widths from the attention's reduced feature: (N, reduced, 1, 1) -> (N, candidates).

    Args:
        reduced: Channels of the reduced feature.
        candidates: Number of widths to choose from.
        in_channels: Of the pooled map that the head reads instead, by a reducing layer of its own: the ablation of
            shared and separate heads.
        output: 'one_hot': a logit for every width. 'ratio': a single number, whose sigmoid a says how wide, from 0 for
            the narrowest width to 1 for the widest; the logit of width k of K is minus the squared distance of
            a (K - 1) and k, so that the nearest width is chosen.

    Source: DS-Net, arXiv 2103.13258, section 3.3. It compares both outputs; how the ratio was trained is not known:
    the logits are ours.
    """

    def __init__(
        self,
        reduced: int,
        candidates: int,
        in_channels: Optional[int] = None,
        output: str = "one_hot",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._candidates, self._is_ratio = candidates, output == "ratio"
        with self.name_scope():
            self.reduce = nn.Conv2D(reduced, 1, in_channels=in_channels) if in_channels else None
            self.act = make_activation("relu") if in_channels else None
            self.gate = nn.Conv2D(1 if self._is_ratio else candidates, 1, in_channels=reduced, use_bias=False)

    def madds(self, in_channels):
        """Multiply-adds for a map of so many channels, a number or a symbol."""
        outputs, reduced = self.gate.weight.shape[:2]
        return reduced * outputs + (in_channels * reduced if self.reduce is not None else 0)

    def at(self, in_channels: int) -> SlimmingHead:
        """This head for a map of fewer channels, over the same Parameters: itself, if it is a shared one."""
        if self.reduce is None:
            return self
        part = SlimmingHead.__new__(SlimmingHead)
        HybridBlock.__init__(part)
        part._candidates, part._is_ratio = self._candidates, self._is_ratio
        part.reduce = SlicedConv2D(self.reduce, in_channels, self.reduce.weight.shape[0])
        part.act, part.gate = self.act, self.gate
        return part

    def hybrid_forward(self, F, x):
        x = F.flatten(self.gate(self.act(self.reduce(x)) if self.reduce is not None else x))
        if not self._is_ratio:
            return x
        # Of -(a - k)^2 all but the square of a, which no choice and no softmax depends on.
        place = F.Activation(x, act_type="sigmoid") * (self._candidates - 1)
        return F.concat(*(place * (2 * k) - k * k for k in range(self._candidates)), dim=1)


class DoubleHeadedGate(SlicedSqueezeExcite):
    """Attention head and slimming head over one pooling and one reducing layer (DS-Net, section 3.3).

    (N, channels, H, W) -> the map times its attention, and with a `head` the logits (N, candidates) too. `mask`
    (N, channels, 1, 1) says which channels a sample has.
    """

    def __init__(self, se: Optional[SqueezeExcite], channels: int, head: Optional[SlimmingHead] = None):
        assert se is not None, "only units with squeeze-and-excitation have a gate"
        super().__init__(se, channels)
        self.head = head

    def hybrid_forward(self, F, x, mask=None):
        pooled = self.pool(x)
        reduced = self.act(self.reduce(pooled))
        attention = self.expand(reduced)
        if mask is not None:
            attention = F.broadcast_mul(attention, mask)
        y = scale_channels(F, x, self.gate(attention))
        if self.head is None:
            return y
        return y, self.head(reduced if self.head.reduce is None else pooled)


class _MaskedBatchNorm(HybridBlock):
    """A BN layer with the running statistics of every sample's own width; never with those of the batch."""

    def __init__(self, layer: nn.BatchNorm, widths: Widths, statistics: WidthStatistics):
        super().__init__()
        self._widths, self._epsilon = tuple(widths), layer._kwargs["eps"]
        share(self, gamma=layer.gamma, beta=layer.beta)
        for k, width in enumerate(widths):
            of_width = statistics.of(layer, width)
            share(self, **{f"mean_{k}": of_width.running_mean, f"var_{k}": of_width.running_var})

    def hybrid_forward(self, F, x, choice, gamma, beta, **statistics):
        gamma, beta = (F.slice_axis(array, axis=0, begin=0, end=self._widths[-1]) for array in (gamma, beta))

        def of_samples(kind):
            rows = []
            for k, width in enumerate(self._widths[:-1]):
                # 0 behind the width, as in the authors' code: the gate's gradient depends on it.
                rest = F.zeros_like(F.slice_axis(gamma, axis=0, begin=width, end=None))
                rows.append(F.concat(statistics[f"{kind}_{k}"], rest, dim=0))
            return F.dot(choice, F.stack(*rows, statistics[f"{kind}_{len(rows)}"], axis=0))

        scale = F.broadcast_div(F.reshape(gamma, (1, -1)), F.sqrt(of_samples("var") + self._epsilon))
        shift = F.broadcast_sub(F.reshape(beta, (1, -1)), of_samples("mean") * scale)
        scale, shift = (F.reshape(array, (0, 0, 1, 1)) for array in (scale, shift))
        return F.broadcast_add(F.broadcast_mul(x, scale), shift)


class _MaskedConvBN(ConvBN):
    """`unit` at the widest of `widths`, masked to the one that every sample chose."""

    def __init__(self, unit: ConvBN, in_channels: int, widths: Widths, statistics: WidthStatistics):
        HybridBlock.__init__(self)
        self._kernel, self._stride = unit._kernel, unit._stride
        self.conv = SlicedConv2D(unit.conv, in_channels, widths[-1])
        self._needs_choice = not isinstance(unit.bn, ChannelGroupNorm)
        if self._needs_choice:
            self.bn = _MaskedBatchNorm(unit.bn, widths, statistics)
        else:
            self.bn = sliced_norm(unit.bn, widths[-1], statistics)
        self.act = unit.act
        self.set_padding(unit.padding)

    def hybrid_forward(self, F, x, choice, mask):
        if self._pad_end:
            x = F.pad(x, mode="constant", constant_value=0, pad_width=self._pad_width)
        x = F.broadcast_mul(self.conv(x), mask)
        x = F.broadcast_mul(self.bn(x, choice) if self._needs_choice else self.bn(x), mask)
        return self.act(x) if self.act is not None else x


def _masked_conv_bn(unit: ConvBN, in_channels: int, widths: Widths, statistics: WidthStatistics) -> ConvBN:
    if len(widths) == 1:
        return SlicedConvBN(unit, in_channels, widths[0], statistics, frozen=True)
    return _MaskedConvBN(unit, in_channels, widths, statistics)


class _MaskedUnit(HybridBlock):
    """(x, choice (N, K) that made x or None, noise (N, K)) -> y; with a slimming head (y, new choice, gate logits)."""

    def __init__(self, in_widths: Widths, widths: Widths, gate: DoubleHeadedGate):
        super().__init__()
        self._in_widths, self._widths = tuple(in_widths), tuple(widths)
        self.gate = gate

    def _attend(self, F, x, choice, mask, noise):
        """Return the gate's map, the choice of the output's width and the logits, None without a slimming head."""
        if self.gate.head is None:
            return self.gate(x, mask), choice, None
        x, logits = self.gate(x, mask)
        return x, straight_through(F, logits + noise), logits


class _MaskedSeparableUnit(_MaskedUnit):
    def __init__(self, unit: SeparableUnit, in_widths, widths, statistics, head):
        super().__init__(in_widths, widths, DoubleHeadedGate(unit.se, in_widths[-1], head))
        self.depthwise = _masked_conv_bn(unit.depthwise, in_widths[-1], in_widths, statistics)
        self.pointwise = _masked_conv_bn(unit.pointwise, in_widths[-1], widths, statistics)

    def hybrid_forward(self, F, x, choice, noise):
        mask = None if choice is None else channel_mask(F, choice, self._in_widths)
        x = self.depthwise(x) if choice is None else self.depthwise(x, choice, mask)
        x, choice, logits = self._attend(F, x, choice, mask, noise)
        x = self.pointwise(x, choice, channel_mask(F, choice, self._widths))
        return x if logits is None else (x, choice, logits)


class _MaskedBottleneckUnit(_MaskedUnit):
    def __init__(self, unit: BottleneckUnit, in_widths, widths, statistics, head):
        super().__init__(in_widths, widths, DoubleHeadedGate(unit.se, in_widths[-1], head))
        self._inner = [width // 4 for width in widths]
        self.act = unit.act
        outputs = (self._inner, self._inner, widths, widths)
        for name, whole, (in_channels, _), out in zip(
            ("reduce", "conv", "expand", "shortcut"), *zip(*unit.convs(in_widths[-1], widths[-1])), outputs
        ):
            part = None if whole is None else _masked_conv_bn(whole, in_channels, out, statistics)
            setattr(self, name, part)

    def hybrid_forward(self, F, x, choice, noise):
        mask = None if choice is None else channel_mask(F, choice, self._in_widths)
        y, choice, logits = self._attend(F, x, choice, mask, noise)
        mask, inner = (channel_mask(F, choice, widths) for widths in (self._widths, self._inner))
        y = self.expand(self.conv(self.reduce(y, choice, inner), choice, inner), choice, mask)
        y = self.act(add_shortcut(F, y, x if self.shortcut is None else self.shortcut(x, choice, mask)))
        return y if logits is None else (y, choice, logits)


_MASKED: Dict[type, Callable[..., HybridBlock]] = {
    SeparableUnit: _MaskedSeparableUnit,
    BottleneckUnit: _MaskedBottleneckUnit,
}


def masked_unit(
    unit: Union[SeparableUnit, BottleneckUnit],
    in_widths: Widths,
    widths: Widths,
    statistics: WidthStatistics,
    head: Optional[SlimmingHead] = None,
) -> HybridBlock:
    """Return the masked form of a unit with SE, over its Parameters: every sample chooses its width.

    The form is a block (x, choice, noise) -> y. `choice` (N, K) is the one-hot that decides the widths, of x too; None
    if x has a single width. With a slimming `head` the unit chooses: logits + `noise` (N, K) decide, and it gives (y,
    choice, logits).

    Args:
        unit: `SeparableUnit` or `BottleneckUnit` of the whole network.
        in_widths: Candidate widths of the input, ascending.
        widths: Candidate widths of the output, ascending.
        statistics: BN statistics of the sub-networks.
        head: The slimming head that the unit has, if it has one.
    """
    return _MASKED[type(unit)](unit, in_widths, widths, statistics, head)
