"""StagedNet: the frame of all networks that are a stem, blocks, global pooling and a classifier."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..nn import BlockStyle, ConvBN, Dropout, make_activation
from .base import StageInfo
from .normalized import NormalizedNet

__all__ = ["StagedNet"]

# (style, drop_connect) -> the blocks, as (block, output width, stride)
Blocks = Callable[[BlockStyle, float], Iterator[Tuple[HybridBlock, int, int]]]


class StagedNet(NormalizedNet):
    """(N, in_channels, H, W) -> (N, classes); a new stage begins at every stride.

    Args:
        plan: The numbers of the network: `stem`, `act`, `se_act`, `se_gate`, `head` (width of the last 1x1 convolution,
            None: without one) and `head_hidden` (width of the layer between pooling and classifier, None: without one).
        blocks: Makes the blocks between stem and head.
        dropout: Probability before the classifier.
        drop_connect: Probability at the last block, rising linearly from 0 at the first one.
        bn_epsilon: Of every BN layer; None: 1e-5. (`load_official` sets the epsilon of a network that was built with
            None to that of the checkpoint's definition.)
        padding: 'symmetric', or 'same' as TensorFlow pads at stride 2; None: symmetric, adaptable in the same way.
        classifier_bias: Whether the classifier has a bias.
        classes, in_channels, options: Those of `NormalizedNet`.
    """

    def __init__(
        self,
        plan,
        blocks: Blocks,
        classes: int = 1000,
        in_channels: int = 3,
        *,
        dropout: float = 0.2,
        drop_connect: float = 0.0,
        bn_epsilon: Optional[float] = None,
        padding: Optional[str] = None,
        classifier_bias: bool = True,
        **options: Any,
    ):
        super().__init__(classes, in_channels, bn_epsilon=1e-5 if bn_epsilon is None else bn_epsilon, **options)
        # What the caller left open may be adapted to the definition of an imported checkpoint.
        self.fixed_options = {k: v for k, v in (("bn_epsilon", bn_epsilon), ("padding", padding)) if v is not None}
        style = BlockStyle(self.norm, padding or "symmetric", plan.se_act, plan.se_gate)
        conv_bn = functools.partial(ConvBN, act=plan.act, norm=style.norm, padding=style.padding)
        infos, width = [StageInfo(plan.stem, self.stem_stride)], plan.stem
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(nn.HybridSequential())
            self.features[0].add(conv_bn(in_channels, plan.stem, 3, stride=self.stem_stride))
            for block, width, stride in blocks(style, drop_connect):  # noqa: B007, the last width goes into the head
                if stride > 1:
                    self.features.add(nn.HybridSequential())
                    infos.append(StageInfo(width, infos[-1].stride * stride))
                self.features[-1].add(block)
                infos[-1] = infos[-1]._replace(channels=width)
            self.features.add(_head(plan, width, dropout, conv_bn))
            self.num_features = plan.head_hidden or plan.head or width
            self.stage_info = infos
            self.classifier_bias = classifier_bias
            self._make_output()

    def definition(self) -> Dict[str, Any]:
        # Of the layers, as an imported checkpoint may have adapted them.
        stem = self.stages[0][0]
        return {**super().definition(), "bn_epsilon": stem.bn._kwargs["eps"], "padding": stem.padding}


def _head(plan, in_channels: int, dropout: float, conv_bn: Callable[..., ConvBN]) -> nn.HybridSequential:
    head = nn.HybridSequential()
    if plan.head:
        head.add(conv_bn(in_channels, plan.head))
    head.add(nn.GlobalAvgPool2D())
    if plan.head_hidden:
        head.add(nn.Conv2D(plan.head_hidden, 1, in_channels=plan.head), make_activation(plan.act))
    head.add(nn.Flatten())
    if dropout:
        head.add(Dropout(dropout))
    return head
