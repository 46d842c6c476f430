"""StagedNet: the frame of all networks that are a stem, blocks, global pooling and a classifier."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..nn import BlockStyle, ConvBN, Norm, make_activation
from .base import ClassificationNet, StageInfo

__all__ = ["StagedNet"]

# (style, drop_connect) -> the blocks, as (block, output width, stride)
Blocks = Callable[[BlockStyle, float], Iterator[Tuple[HybridBlock, int, int]]]


class StagedNet(ClassificationNet):
    """(N, in_channels, H, W) -> (N, classes); a new stage begins at every stride.

    Parameters
    ----------
    plan : the numbers of the network: `stem`, `act`, `se_act`, `se_gate`, `head` (width of the last 1x1 convolution,
        None: without one) and `head_hidden` (width of the layer between pooling and classifier, None: without one).
    blocks : makes the blocks between stem and head.
    classes, in_channels : int
    dropout : probability before the classifier.
    drop_connect : probability at the last block, rising linearly from 0 at the first one.
    bn_epsilon, bn_momentum : of every BN layer; None: 1e-5 and 0.9. (`load_official` sets the epsilon of a network
        that was built with None to that of the checkpoint's definition.)
    padding : 'symmetric', or 'same' as TensorFlow pads at stride 2; None: symmetric, adaptable in the same way.
    stem_stride : 2, or 1 for images of about 32 pixels.
    norm_layer, norm_kwargs : as in GluonCV, for all BN layers.
    classifier_bias : whether the classifier has a bias.
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
        bn_momentum: float = 0.9,
        padding: Optional[str] = None,
        stem_stride: int = 2,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        classifier_bias: bool = True,
        **kwargs,
    ):
        super().__init__(classes, in_channels, **kwargs)
        # What the caller left open may be adapted to the definition of an imported checkpoint.
        self.fixed_options = {k: v for k, v in (("bn_epsilon", bn_epsilon), ("padding", padding)) if v is not None}
        norm = Norm(1e-5 if bn_epsilon is None else bn_epsilon, bn_momentum, norm_layer, norm_kwargs or {})
        style = BlockStyle(norm, padding or "symmetric", plan.se_act, plan.se_gate)
        conv = {"act": plan.act, "norm": norm, "padding": style.padding}
        infos, width = [StageInfo(plan.stem, stem_stride)], plan.stem
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(nn.HybridSequential())
            self.features[0].add(ConvBN(in_channels, plan.stem, 3, stride=stem_stride, **conv))
            for block, width, stride in blocks(style, drop_connect):  # noqa: B007, the last width goes into the head
                if stride > 1:
                    self.features.add(nn.HybridSequential())
                    infos.append(StageInfo(width, infos[-1].stride * stride))
                self.features[-1].add(block)
                infos[-1] = infos[-1]._replace(channels=width)
            self.features.add(_head(plan, width, dropout, conv))
            self.num_features = plan.head_hidden or plan.head or width
            self.stage_info = infos
            self.classifier_bias = classifier_bias
            self._make_output()

    def definition(self) -> Dict[str, Any]:
        stem = self.stages[0][0]
        return {
            "in_channels": self.in_channels,
            "stem_stride": self.stage_info[0].stride,
            "bn_epsilon": stem.bn._kwargs["eps"],
            "padding": stem.padding,
        }


def _head(plan, in_channels: int, dropout: float, conv: dict) -> nn.HybridSequential:
    head = nn.HybridSequential()
    if plan.head:
        head.add(ConvBN(in_channels, plan.head, 1, **conv))
    head.add(nn.GlobalAvgPool2D())
    if plan.head_hidden:
        head.add(nn.Conv2D(plan.head_hidden, 1, in_channels=plan.head), make_activation(plan.act))
    head.add(nn.Flatten())
    if dropout:
        head.add(nn.Dropout(dropout))
    return head
