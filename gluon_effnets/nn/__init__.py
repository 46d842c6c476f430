"""Blocks that know no network: activations, convolutions, squeeze-and-excitation, and the units of the papers."""

from .. import _mxnet  # noqa: F401  before all that needs it
from .activations import HardSigmoid, HardSwish, ReLU6, Swish, make_activation
from .cell_operations import OPERATIONS, FactorizedReduce, make_operation
from .channels import ChannelShuffle, concat_channels, select_channels
from .condensed import CondensedConv, CondensedLinear, CondensedReactivation
from .conv import ConvBN, Norm
from .dense_layer import DenseLayer
from .dropout import Dropout
from .fpn import FeaturePyramid
from .gate import SlimmingHead, gumbel_noise, masked_unit
from .idle import IdleBlock, IdleRun
from .init import FanOutNormal, initialize_like_trained
from .layout import plain_layout
from .learned import Grouping, learned_group_conv, reactivation
from .masked import LearnedGroupConv, MaskedConv, SparseFeatureReactivation, masked_layers
from .mbblock import BlockStyle, MBBlock
from .residual import ResidualUnit
from .sandglass import ConvChain, NarrowShortcuts, SandGlass, SqueezeUnit, Unit
from .se import NormalizedSqueezeExcite, SqueezeExcite
from .shortcut import add_shortcut
from .shuffle import ShuffleUnit, ShuffleUnitV2
from .slimmable import BottleneckUnit, ChannelGroupNorm, SeparableUnit, WidthStatistics

__all__ = [
    "OPERATIONS",
    "FactorizedReduce",
    "make_operation",
    "BlockStyle",
    "BottleneckUnit",
    "ChannelGroupNorm",
    "ChannelShuffle",
    "CondensedConv",
    "CondensedLinear",
    "CondensedReactivation",
    "ConvBN",
    "ConvChain",
    "DenseLayer",
    "Dropout",
    "FanOutNormal",
    "FeaturePyramid",
    "Grouping",
    "HardSigmoid",
    "HardSwish",
    "IdleBlock",
    "IdleRun",
    "LearnedGroupConv",
    "MBBlock",
    "MaskedConv",
    "NarrowShortcuts",
    "Norm",
    "NormalizedSqueezeExcite",
    "ReLU6",
    "ResidualUnit",
    "SandGlass",
    "SeparableUnit",
    "ShuffleUnit",
    "ShuffleUnitV2",
    "SlimmingHead",
    "SparseFeatureReactivation",
    "SqueezeExcite",
    "SqueezeUnit",
    "Swish",
    "Unit",
    "WidthStatistics",
    "add_shortcut",
    "concat_channels",
    "learned_group_conv",
    "gumbel_noise",
    "initialize_like_trained",
    "make_activation",
    "masked_unit",
    "masked_layers",
    "plain_layout",
    "reactivation",
    "select_channels",
]
