"""Conversion of pruned CondenseNets and reactivated ShuffleNets: masked layers -> index, group convolution and sum."""

from __future__ import annotations

from typing import Dict, Optional

import mxnet as mx
import numpy as np
from mxnet.gluon.block import Block

from ..nn import (
    CondensedConv,
    CondensedLinear,
    CondensedReactivation,
    LearnedGroupConv,
    MaskedConv,
    SparseFeatureReactivation,
    masked_layers,
)
from .base import ClassificationNet
from .registry import get_model

__all__ = ["condense", "require_pruned"]


def condense(
    net: ClassificationNet, *, classifier: bool = False, into: Optional[ClassificationNet] = None
) -> ClassificationNet:
    """Return the network that a completely pruned one is at inference; `net` stays as it is.

    Every weight is a copy, bit for bit, and the logits are equal to rounding.

    Args:
        net: The training form, with its pruning finished.
        classifier: Also drop the half of the classifier's inputs with the smallest L1 norm, as CondenseNet's authors
            do. That changes the logits: nothing was trained for it.
        into: The network to fill, built with `condensed=True`; None: built by the name of `net` and its options.

    Raises:
        ValueError: For a network without masked layers or built by hand without `into`, and for unfinished pruning.

    Source: CondenseNet, arXiv 1711.09224, section 3, and the `convert_model` of the authors' code.

    Example:
        >>> inference = condense(get_model("condensenet_v2_a", pretrained="pruned.params"))
    """
    require_pruned(net)
    if into is None:
        if net.info is None:
            raise ValueError("a network built by hand: condense(net, into=...) needs its twin with condensed=True")
        form = {"condensed": True, **({"condensed_classifier": True} if classifier else {})}
        into = get_model(net.info.name, classes=net.num_classes, **{**net.options, **form})
    into.initialize(ctx=next(iter(net.collect_params().values())).list_ctx())
    _convert(net, into)
    into.card = net.card
    return into


def require_pruned(net: ClassificationNet) -> None:
    """Raise ValueError, naming the layers, unless every learned layer of the network is pruned to its last share."""
    layers = masked_layers(net)
    name = net.info.name if net.info else type(net).__name__
    if not layers:
        raise ValueError(f"{name} has no masked layers to condense (is it condensed already?)")
    unfinished = [
        f"{path} (stage {layer.stage} of {layer.factor - 1})" for path, layer in layers.items() if not layer.finished
    ]
    if unfinished:
        more = f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        raise ValueError(
            f"the pruning of {name} is not finished: {', '.join(unfinished[:3])}{more}.\n"
            "Train it to the end with the sparsify hook, whose last stage is in the middle of the run."
        )


def _convert(source: Block, target: Block) -> None:
    convert = _CONVERSIONS.get((type(source), type(target)))
    if convert is not None:
        _assign(target, convert(source))
        return
    for name, param in source._reg_params.items():
        target._reg_params[name].set_data(param.data())
    for name, child in source._children.items():
        _convert(child, target._children[name])


def _assign(block: Block, values: Dict[str, np.ndarray]) -> None:
    params = block._collect_params_with_prefix()
    assert params.keys() == values.keys(), params.keys() ^ values.keys()
    for name, value in values.items():
        params[name].set_data(mx.nd.array(value, dtype=params[name].dtype))


def _norm(layer: MaskedConv, index=slice(None)) -> Dict[str, np.ndarray]:
    return {f"bn.{name}": param.data().asnumpy()[index] for name, param in layer.bn._reg_params.items()}


def _learned_group_conv(layer: LearnedGroupConv) -> Dict[str, np.ndarray]:
    mask, weight = layer.mask.data().asnumpy(), layer.masked_weight()
    index = np.nonzero(mask)[1].reshape(layer.groups, -1)
    rows = [weight[group :: layer.groups, kept] for group, kept in enumerate(index)]
    values = {"index": index.ravel(), "conv.weight": np.concatenate(rows)[:, :, None, None]}
    return {**values, **_norm(layer, index.ravel())}


def _reactivation(layer: SparseFeatureReactivation) -> Dict[str, np.ndarray]:
    mask, weight = layer.mask.data().asnumpy() > 0, layer.masked_weight()
    rows = [weight[kept, group :: layer.groups] for group, kept in enumerate(mask)]
    # Channels of the convolution are counted through the groups; the number behind the last one means none.
    table = np.where(mask, np.cumsum(mask).reshape(mask.shape) - 1, mask.sum())
    return {"table": table, "conv.weight": np.concatenate(rows)[:, :, None, None], **_norm(layer)}


def _classifier(layer) -> Dict[str, np.ndarray]:
    weight = layer.weight.data().asnumpy()
    # In ascending order of importance, as the authors' code has it.
    order = np.argsort(np.abs(weight.astype(np.float64)).sum(axis=0), kind="stable")
    index = order[len(order) - len(order) // 2 :]
    return {"index": index, "linear.weight": weight[:, index], "linear.bias": layer.bias.data().asnumpy()}


_CONVERSIONS = {
    (LearnedGroupConv, CondensedConv): _learned_group_conv,
    (SparseFeatureReactivation, CondensedReactivation): _reactivation,
    (mx.gluon.nn.Dense, CondensedLinear): _classifier,
}
