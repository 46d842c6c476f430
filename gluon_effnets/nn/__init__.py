"""Blocks that know no network: activations, convolutions, squeeze-and-excitation, and the units of the papers."""

from .activations import HardSigmoid, HardSwish, ReLU6, Swish, make_activation
from .channels import ChannelShuffle, concat_channels
from .conv import ConvBN, Norm
from .idle import IdleBlock, IdleRun
from .init import FanOutNormal
from .mbblock import BlockStyle, MBBlock
from .residual import ResidualUnit
from .sandglass import ConvChain, SandGlass, Unit
from .se import SqueezeExcite
from .shuffle import ShuffleUnit, ShuffleUnitV2

__all__ = [
    "BlockStyle",
    "ChannelShuffle",
    "ConvBN",
    "ConvChain",
    "FanOutNormal",
    "HardSigmoid",
    "HardSwish",
    "IdleBlock",
    "IdleRun",
    "MBBlock",
    "Norm",
    "ReLU6",
    "ResidualUnit",
    "SandGlass",
    "ShuffleUnit",
    "ShuffleUnitV2",
    "SqueezeExcite",
    "Swish",
    "Unit",
    "concat_channels",
    "make_activation",
]
