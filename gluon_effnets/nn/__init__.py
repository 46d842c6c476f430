"""Blocks that know no network: activations, convolution units, squeeze-and-excitation, shuffle, MBBlock, IdleBlock."""

from .activations import HardSigmoid, HardSwish, ReLU6, Swish, make_activation
from .channels import ChannelShuffle, concat_channels
from .conv import ConvBN, Norm
from .idle import IdleBlock, IdleRun
from .init import FanOutNormal
from .mbblock import BlockStyle, MBBlock
from .se import SqueezeExcite

__all__ = [
    "BlockStyle",
    "ChannelShuffle",
    "ConvBN",
    "FanOutNormal",
    "HardSigmoid",
    "HardSwish",
    "IdleBlock",
    "IdleRun",
    "MBBlock",
    "Norm",
    "ReLU6",
    "SqueezeExcite",
    "Swish",
    "concat_channels",
    "make_activation",
]
