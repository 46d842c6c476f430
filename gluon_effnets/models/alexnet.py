"""AlexNet, in the form of torchvision and GluonCV, and in that of Caffe.

=====  ======  ======  ======  =======  ======  ========================
form   conv1   conv2   conv3   conv4    conv5   fully connected
=====  ======  ======  ======  =======  ======  ========================
owt    64      192     384     256      256     4096, 4096, classes
caffe  96      256 g2  384     384 g2   256 g2  4096, 4096, classes
=====  ======  ======  ======  =======  ======  ========================

conv1 is 11x11 with stride 4, conv2 5x5, the others 3x3; max pooling 3x3 with stride 2 behind conv1, conv2 and conv5.
`owt` is the single tower of "One weird trick" (arXiv 1404.5997), without normalization. `caffe` is the original of two
towers (groups 2, "g2"), with local response normalization behind conv1 and conv2 as Caffe's `bvlc_alexnet` has it
(`lrn`); its crop of 227 without padding is here 224 padded by 2, the same maps.

Images need at least 63 pixels a side. Away from 224 the 6x6 grid before the first fully connected layer is an
adaptive average.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..nn import Dropout
from .base import ClassificationNet, StageInfo
from .registry import register_model

__all__ = ["AlexNet", "alexnet_caffe", "alexnet_owt"]

OWT_PAPER = "One weird trick for parallelizing convolutional neural networks, arXiv 1404.5997"
CAFFE_PAPER = "ImageNet Classification with Deep Convolutional Neural Networks (NIPS 2012; no arXiv number)"
GRID = 6
HIDDEN = 4096


class Conv(NamedTuple):
    """A convolution with bias, followed by ReLU."""

    channels: int
    kernel: int
    groups: int = 1


OWT = (Conv(64, 11), Conv(192, 5), Conv(384, 3), Conv(256, 3), Conv(256, 3))
CAFFE = (Conv(96, 11), Conv(256, 5, 2), Conv(384, 3), Conv(384, 3, 2), Conv(256, 3, 2))


class LocalResponseNorm(HybridBlock):
    """x / (1 + 1e-4 / 5 * sum of the squares of 5 neighboring channels) ** 0.75: Caffe's constants."""

    def hybrid_forward(self, F, x):
        return F.LRN(x, nsize=5, alpha=1e-4, beta=0.75, knorm=1)


class AdaptiveAveragePool(HybridBlock):
    """Average to `GRID` x `GRID`: (N, C, H, W) -> (N, C, 6, 6); from 6 x 6 the identity."""

    def hybrid_forward(self, F, x):
        return F.contrib.AdaptiveAvgPooling2D(x, output_size=GRID)


class AlexNet(ClassificationNet):
    """(N, in_channels, H, W) -> (N, classes).

    Three stages, of strides 4, 8 and 16; at H = 224 their maps have 55, 27 and 13 rows, one less than H / stride.

    `convolutions`: the five of a form above. `dropout`: before both hidden layers. `lrn`: local response normalization.
    """

    def __init__(
        self,
        convolutions: Tuple[Conv, ...],
        classes: int = 1000,
        in_channels: int = 3,
        *,
        dropout: float = 0.5,
        lrn: bool = False,
        **kwargs,
    ):
        super().__init__(classes, in_channels, **kwargs)
        self.lrn = lrn
        width = in_channels
        with self.name_scope():
            self.features = nn.HybridSequential()
            for number, conv in enumerate(convolutions):
                if number < 3:
                    self.features.add(nn.HybridSequential())
                    if number:
                        self.features[-1].add(nn.MaxPool2D(3, 2))
                self.features[-1].add(_convolution(width, conv, first=number == 0))
                if lrn and number < 2:
                    self.features[-1].add(LocalResponseNorm())
                width = conv.channels
            self.features.add(_head(width, dropout))
            self.num_features = HIDDEN
            first, second, *_, last = (conv.channels for conv in convolutions)
            self.stage_info = [StageInfo(first, 4), StageInfo(second, 8), StageInfo(last, 16)]
            self._make_output()

    def definition(self) -> Dict[str, Any]:
        return {"in_channels": self.in_channels, "lrn": self.lrn}


def _convolution(in_channels: int, conv: Conv, first: bool) -> nn.Conv2D:
    stride, padding = (4, 2) if first else (1, conv.kernel // 2)
    layout = {"groups": conv.groups, "in_channels": in_channels, "activation": "relu"}
    return nn.Conv2D(conv.channels, conv.kernel, stride, padding, **layout)


def _head(in_channels: int, dropout: float) -> nn.HybridSequential:
    head = nn.HybridSequential()
    head.add(nn.MaxPool2D(3, 2), AdaptiveAveragePool(), nn.Flatten())
    for in_units in (in_channels * GRID * GRID, HIDDEN):
        if dropout:
            head.add(Dropout(dropout))
        head.add(nn.Dense(HIDDEN, "relu", in_units=in_units))
    return head


# Not registered as `alexnet`: that name in GluonCV's own registry must stay GluonCV's.
@register_model(
    family="alexnet",
    paper=OWT_PAPER,
    aliases=("alexnet",),
    representative=True,
    small=True,
    torch=("torchvision", "alexnet", {}),
)
def alexnet_owt(**options) -> AlexNet:
    """AlexNet as in torchvision and GluonCV: 61.10 M parameters, 714.2 M MAdds."""
    return AlexNet(OWT, **options)


@register_model(family="alexnet", paper=CAFFE_PAPER)
def alexnet_caffe(**options) -> AlexNet:
    """AlexNet as in Caffe, two groups, with local response normalization: 60.97 M parameters, 724.4 M MAdds."""
    return AlexNet(CAFFE, **{"lrn": True, **options})
