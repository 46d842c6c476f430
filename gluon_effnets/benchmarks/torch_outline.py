"""What our networks are made of, block by block, as lists that JSON holds: `torch_modules` builds them in PyTorch.

Neither this file nor the outline needs PyTorch, so that another interpreter, which has it, can build the network.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
from mxnet.gluon import nn as gluon
from mxnet.gluon.block import HybridBlock

from ..models import ClassificationNet, SlimmableNet
from ..models.condensenet import CondenseNet
from ..models.slimmable_views import SubNet
from ..models.staged import StagedNet
from ..nn import (
    ChannelShuffle,
    CondensedConv,
    CondensedLinear,
    CondensedReactivation,
    ConvBN,
    ConvChain,
    DenseLayer,
    Dropout,
    HardSigmoid,
    HardSwish,
    IdleBlock,
    IdleRun,
    MBBlock,
    ReLU6,
    SandGlass,
    ShuffleUnit,
    ShuffleUnitV2,
    SqueezeExcite,
    Swish,
)
from ..nn.slimmable import SeparableUnit, SlicedConvBN, SlicedDense, SlicedSqueezeExcite

__all__ = ["NoCounterpart", "Outline", "outline"]

Outline = List[Any]  # a kind of `torch_modules` and its options


class NoCounterpart(ValueError):
    """A network, or a block of one, that is not written in PyTorch here."""

    def __init__(self, block: HybridBlock):
        super().__init__(
            f"no PyTorch beside {type(block).__name__}: only networks of MBBlocks, IdleBlocks, SandGlass blocks, "
            "ShuffleUnits, condensed dense layers, widths of separable units and plain chains of convolutions have a "
            "counterpart"
        )


def outline(net: ClassificationNet, authors: bool = False) -> Outline:
    """The counterpart of one of our networks: (N, in_channels, H, W) -> logits (N, num_classes), in NCHW.

    Its layers stand in the order of ours, so weights map one to one.

    Args:
        net: The network; a CondenseNet only condensed, of a slimmable network one of its sub-networks.
        authors: Write condensed reactivations as their authors do, as a product with a matrix of zeros and ones.

    Raises:
        NoCounterpart: (a ValueError) for a network with a block that this file does not know, and with `authors` for
            one without reactivations.
    """
    # Only of these it is known that they are their features and output, one after the other.
    known = isinstance(net, (StagedNet, SubNet)) or (isinstance(net, CondenseNet) and net.condensed)
    if not known or isinstance(net, SlimmableNet):
        raise NoCounterpart(net)
    if not authors:
        return _sequence(net.features, net.output)
    if not isinstance(net, CondenseNet) or net.plan.update is None:
        raise ValueError("its authors write no layer otherwise: only CondenseNetV2's reactivations have such a form")
    return _as_authors(_sequence(net.features, net.output))


def _counterpart(block: HybridBlock) -> Outline:
    # The exact type: a subclass may compute something else.
    if type(block) not in _COUNTERPARTS:
        raise NoCounterpart(block)
    return _COUNTERPARTS[type(block)](block)


def _outlines(*blocks: Optional[HybridBlock]) -> List[Outline]:
    return [_counterpart(block) for block in blocks if block is not None]


def _sequence(*blocks: Optional[HybridBlock]) -> Outline:
    return ["sequence", {"blocks": _outlines(*blocks)}]


def _plain(kind: str) -> Callable[[HybridBlock], Outline]:
    return lambda block: [kind, {}]


def _shape(layer: HybridBlock, key: str = "weight") -> Tuple[int, ...]:
    """Of a parameter, of views the part that they use."""
    return getattr(layer, "active", {}).get(key) or layer._reg_params[key].shape


def _options(layer: HybridBlock, **keys: str) -> Dict[str, Any]:
    """PyTorch's names of options, with MXNet's values of the layer."""
    values = {theirs: layer._kwargs[ours] for ours, theirs in keys.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _conv(layer: gluon.Conv2D) -> Outline:
    options = _options(layer, kernel="kernel_size", stride="stride", pad="padding", num_group="groups")
    channels, per_group = _shape(layer)[:2]
    inputs = per_group * options["groups"]
    return ["convolution", {"in_channels": inputs, "out_channels": channels, "bias": _has_bias(layer), **options}]


def _has_bias(layer: HybridBlock) -> bool:
    return layer._reg_params.get("bias") is not None


def _batch_norm(layer: gluon.BatchNorm) -> Outline:
    # Its momentum is the share of the new value, ours the share of the old one. Gamma counts as 1 if it is fixed, as it
    # begins there.
    options = {"epsilon": layer._kwargs["eps"], "momentum": 1 - layer._kwargs["momentum"]}
    return ["batch norm", {"channels": _shape(layer, "gamma")[0], **options, "fixed": layer._kwargs["fix_gamma"]}]


def _linear(layer: gluon.Dense) -> Outline:
    units, in_units = _shape(layer)
    return ["linear", {"in_features": in_units, "out_features": units, "bias": _has_bias(layer)}]


def _pooling(kind: str) -> Callable[[HybridBlock], Outline]:
    return lambda layer: [kind, _options(layer, kernel="kernel_size", stride="stride", pad="padding")]


def _activation(layer: gluon.Activation) -> Outline:
    return [{"relu": "relu", "sigmoid": "sigmoid"}[layer._act_type], {}]


def _dropout(layer: gluon.Dropout) -> Outline:
    return ["drop connect", {"rate": layer._rate}] if layer._axes else ["dropout", {"p": layer._rate}]


def _conv_bn(block: ConvBN) -> Outline:
    # TensorFlow's 'SAME', which PyTorch's convolutions refuse at stride 2.
    pad = [["zero padding", {"padding": list(block._pad_width[4:])}]] if block._pad_end else []
    return ["sequence", {"blocks": [*pad, _conv(block.conv), _batch_norm(block.bn), *_outlines(block.act)]}]


def _squeeze_excite(block: SqueezeExcite) -> Outline:
    layers = [*_outlines(block.pool), _conv(block.reduce), *_outlines(block.act), _conv(block.expand)]
    return ["squeeze-and-excitation", {"gate": [*layers, *_outlines(block.gate)]}]


def _mbblock(block: MBBlock) -> Outline:
    branch = _outlines(block.expand, block.depthwise, block.se, block.project, block.drop)
    return ["residual", {"branch": branch, "has_residual": block.has_residual}]


def _chain(chain: ConvChain) -> Outline:
    kept = chain.identity_channels if chain.identity_channels < chain.channels else None
    branch = _outlines(chain.units, chain.se, chain.drop)
    return ["residual", {"branch": branch, "has_residual": chain.has_residual, "identity_channels": kept}]


def _channel_shuffle(shuffle: ChannelShuffle) -> Outline:
    return ["channel shuffle", {"groups": shuffle._shape[1]}]


def _idle_block(block: IdleBlock) -> Outline:
    sizes = [block.split_at, block.num_active + block.num_idle - block.split_at]
    options = {"left_is_active": block.side == "left", "sizes": sizes}
    return ["idle block", {"active": _mbblock(block.active), **options, "last": _outlines(block.shuffle)}]


def _shuffle_unit(unit: ShuffleUnit) -> Outline:
    inner = (unit.shuffle, unit.depthwise) if unit.before else (unit.depthwise, unit.shuffle)
    parts = {"branch": _outlines(unit.reduce, *inner, unit.expand), "pool": _outlines(unit.pool)}
    return ["shuffle unit", {**parts, "last": _outlines(unit.se, unit.drop)}]


def _shuffle_unit_v2(unit: ShuffleUnitV2) -> Outline:
    if unit.update is not None:
        raise NoCounterpart(unit.update)
    parts = {name: _outlines(getattr(unit, name)) for name in ("first", "proj", "branch", "last")}
    return ["shuffle unit v2", parts]


def _select(index) -> Outline:
    return ["select", {"index": index.data().asnumpy().astype(int).tolist()}]


def _condensed_conv(block: CondensedConv) -> Outline:
    return ["sequence", {"blocks": [_select(block.index), *_outlines(block.bn, block.act, block.conv, block.shuffle)]}]


def _condensed_linear(layer: CondensedLinear) -> Outline:
    return ["sequence", {"blocks": [_select(layer.index), *_outlines(layer.linear)]}]


def _dense_layer(layer: DenseLayer) -> Outline:
    update = layer.update
    new = _outlines(layer.reduce, layer.bn, layer.act, layer.conv, layer.se)
    if update is None:
        return ["dense layer", {"new": new, "update": [], "targets": [], "channels": 0, "authors": False}]
    if type(update) is not CondensedReactivation:
        raise NoCounterpart(update)
    matrix = update.as_matrix()
    rows = _outlines(update.bn, update.act, update.shuffle, update.conv)
    # Every row of the group convolution is added to one of the old channels.
    assert (matrix.sum(axis=0) == 1).all()
    targets = {"targets": np.argmax(matrix, axis=0).tolist(), "channels": len(matrix)}
    return ["dense layer", {"new": new, "update": rows, **targets, "authors": False}]


def _as_authors(given: Outline) -> Outline:
    """The same outline with the authors' sums."""
    kind, options = given
    if kind == "sequence":
        return [kind, {"blocks": [_as_authors(block) for block in options["blocks"]]}]
    if kind != "dense layer" or not options["update"]:
        return given
    return [kind, {**options, "authors": True}]


_COUNTERPARTS: Dict[type, Callable[[Any], Outline]] = {
    gluon.Activation: _activation,
    HardSigmoid: _plain("hard sigmoid"),
    HardSwish: _plain("hard swish"),
    ReLU6: _plain("relu6"),
    Swish: _plain("swish"),
    gluon.Conv2D: _conv,
    gluon.BatchNorm: _batch_norm,
    gluon.Dense: _linear,
    Dropout: _dropout,
    gluon.Dropout: _dropout,
    gluon.AvgPool2D: _pooling("average pooling"),
    gluon.MaxPool2D: _pooling("max pooling"),
    gluon.GlobalAvgPool2D: _plain("global pooling"),
    gluon.Flatten: _plain("flatten"),
    gluon.HybridSequential: lambda blocks: _sequence(*blocks),
    ChannelShuffle: _channel_shuffle,
    CondensedConv: _condensed_conv,
    CondensedLinear: _condensed_linear,
    ConvBN: _conv_bn,
    ConvChain: _chain,
    DenseLayer: _dense_layer,
    IdleBlock: _idle_block,
    # Split and joined in every block, as one writes it; ours does so once per run.
    IdleRun: lambda run: _sequence(*run),
    MBBlock: _mbblock,
    SandGlass: _chain,
    ShuffleUnit: _shuffle_unit,
    SeparableUnit: lambda unit: _sequence(unit.depthwise, unit.se, unit.pointwise),
    ShuffleUnitV2: _shuffle_unit_v2,
    SlicedConvBN: _conv_bn,
    SlicedDense: _linear,
    SlicedSqueezeExcite: _squeeze_excite,
    SqueezeExcite: _squeeze_excite,
}
