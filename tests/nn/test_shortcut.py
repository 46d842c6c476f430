"""The sum of branch and shortcut: fused by oneDNN it is what it is unfused, and it is fused where it can be."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from gluon_effnets.deploy.graph.inference import inference_graph
from gluon_effnets.deploy.to_mxnet.variants import graph_blocks
from gluon_effnets.nn import ConvBN, MBBlock, SandGlass, SqueezeExcite, Unit, add_shortcut, concat_channels
from gluon_effnets.nn.residual import ResidualUnit

CHANNELS = 32


def chain(*blocks):
    net = nn.HybridSequential()
    net.add(*blocks)
    return net


class Ghost(HybridBlock):
    """A map joined to a depthwise convolution of it: ends in no convolution."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.primary = ConvBN(CHANNELS, CHANNELS // 2)
            self.cheap = ConvBN(CHANNELS // 2, CHANNELS // 2, 3, groups=CHANNELS // 2)

    def hybrid_forward(self, F, x):
        y = self.primary(x)
        return concat_channels(F, y, self.cheap(y))


def conv_bn(act=None, kernel=1, groups=1):
    return ConvBN(CHANNELS, CHANNELS, kernel, act=act, groups=groups)


def conv():
    return nn.Conv2D(CHANNELS, 3, padding=1, in_channels=CHANNELS, use_bias=False)


def norm():
    return nn.BatchNorm(in_channels=CHANNELS)


BRANCHES = {
    "convolution": lambda: chain(conv_bn("relu", 3), conv_bn()),
    "dropout": lambda: chain(conv_bn(), nn.Dropout(0.3)),
    "norm first": lambda: chain(norm(), nn.Activation("relu"), conv()),
    "activation": lambda: conv_bn("relu"),
    "SE": lambda: chain(conv_bn(), SqueezeExcite(CHANNELS, 8)),
    "groups": lambda: conv_bn(groups=4),
    "joined": Ghost,
}
SHORTCUTS = {
    "identity": lambda: None,
    "one": conv_bn,
    "depthwise": lambda: conv_bn(kernel=3, groups=CHANNELS),
    "two": lambda: chain(conv_bn(kernel=3, groups=CHANNELS), conv_bn()),
    "norm first": lambda: chain(norm(), nn.Activation("relu"), conv()),
    "joined": Ghost,
}
BEFORE = {"nothing": lambda: None, "convolution": conv, "linear": conv_bn, "activation": lambda: conv_bn("relu")}
# What oneDNN can compute together with the sum.
FUSIBLE = ("convolution", "dropout", "norm first"), ("one", "depthwise", "two", "norm first")


class Block(HybridBlock):
    def __init__(self, branch, shortcut):
        super().__init__()
        with self.name_scope():
            self.branch, self.shortcut = BRANCHES[branch](), SHORTCUTS[shortcut]()

    def add(self, F, branch, shortcut):
        return add_shortcut(F, branch, shortcut)

    def hybrid_forward(self, F, x):
        return self.add(F, self.branch(x), x if self.shortcut is None else self.shortcut(x))


class Written(Block):
    """The same without the helper."""

    def add(self, F, branch, shortcut):
        return branch + shortcut


def network(block, before="activation"):
    net = chain(*filter(None, (BEFORE[before](), block, nn.Activation("relu"))))
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    for name, param in net.collect_params().items():
        if name.endswith(("gamma", "running_var")):
            param.set_data(mx.nd.random.uniform(0.5, 1.5, param.shape))
        if name.endswith(("beta", "running_mean")):
            param.set_data(mx.nd.random.normal(0, 0.3, param.shape))
    return net


def fused_error(net, channels=CHANNELS):
    """Largest difference between the fused graph and the network, as a share of the largest value."""
    x = mx.nd.random.normal(shape=(2, channels, 14, 14))
    plain, fused = net(x).asnumpy(), graph_blocks(net, x)["fused"]
    return np.abs(fused(x).asnumpy() - plain).max() / np.abs(plain).max()


def fused_sums(net):
    """Sums that are part of a convolution, and those that are not."""
    nodes = json.loads(inference_graph(net).get_backend_symbol("MKLDNN").tojson())["nodes"]
    inner = [sub["nodes"] for node in nodes for sub in node.get("subgraphs", ()) if node["op"] == "_sg_mkldnn_conv"]
    within = sum(any(node["op"] == "elemwise_add" for node in nodes) for nodes in inner)
    return within, sum(node["op"] == "elemwise_add" for node in nodes)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_the_fused_sum_is_right_and_fused_where_it_can_be(branch, shortcut, before):
    net = network(Block(branch, shortcut), before)
    assert fused_error(net) < 1e-4
    can_fuse = branch in FUSIBLE[0] or shortcut in FUSIBLE[1]
    assert fused_sums(net) == ((1, 0) if can_fuse else (0, 1))


@pytest.mark.parametrize(("branch", "shortcut"), [("joined", "two"), ("SE", "one"), ("activation", "norm first")])
def test_the_sum_written_by_hand_fails(branch, shortcut):
    """Why there is a helper; if this ever passes, MXNet was mended."""
    with pytest.raises(mx.MXNetError):
        fused_error(network(Written(branch, shortcut)))


def test_the_sum_written_by_hand_is_silently_wrong():
    assert fused_error(network(Written("norm first", "identity"), "convolution")) > 1e-2


@pytest.mark.parametrize(
    "block",
    [
        lambda: MBBlock(CHANNELS, 48, CHANNELS, se=8),
        lambda: SandGlass(CHANNELS, 16, CHANNELS),
        lambda: SandGlass(CHANNELS, 16, CHANNELS, se=8, identity_divisor=2, shortcut="mask"),
        lambda: ResidualUnit(CHANNELS, [Unit(16, act="relu"), Unit(48)]),
        lambda: ResidualUnit(CHANNELS, [Unit(16, act="relu"), Unit(48, groups=4)]),
        lambda: ResidualUnit(CHANNELS, [Unit(16, act="relu"), Unit(48, act="relu")]),
    ],
    ids=["MBBlock", "SandGlass", "mask with SE", "projection", "groups and projection", "activation and projection"],
)
def test_blocks_of_the_package(block):
    assert fused_error(network(block())) < 1e-4


def test_arrays_are_just_added():
    a, b = mx.nd.array([1.0, 2.0]), mx.nd.array([3.0, 5.0])
    np.testing.assert_array_equal(add_shortcut(mx.nd, a, b).asnumpy(), [4, 7])
