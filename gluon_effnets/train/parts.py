"""Parts of a network by the names of their parameters: what does not learn, and what learns at a rate of its own."""

from __future__ import annotations

import difflib
import fnmatch
from typing import Any, Dict, List, Mapping, Sequence

from mxnet.gluon import nn
from mxnet.gluon.block import Block
from mxnet.gluon.parameter import Parameter

from ..detection import Detector
from ..models import SlimmableNet
from .batch_statistics import statistics_layers

__all__ = ["freeze", "parameters_of", "set_rates"]

BACKBONE = "backbone"


def parameters_of(net: Block, pattern: str, where: str) -> Dict[str, Parameter]:
    """Return the parameters of a part of a network by their names within it.

    Args:
        net: The network.
        pattern: A name ('output.bias'), the beginning of names ('features.0', a stage), either with wildcards
            ('features.*.bn'), or 'backbone': all but the classifier; of a detector the network that it stands on.
        where: The place of the pattern in the recipe, for the text of the error.

    Raises:
        ValueError: There is no such parameter.
    """
    names = net._collect_params_with_prefix()
    if pattern == BACKBONE and isinstance(net, Detector):
        below = {name: param for name, param in names.items() if BACKBONE in name.split(".")}
        if not below:
            raise ValueError(f"{where}: {net.identity['model']} has no part {BACKBONE}; name its parameters instead")
        return below
    if pattern == BACKBONE:
        return {name: param for name, param in names.items() if not name.startswith("output.")}
    ways = (pattern, f"{pattern}.*")
    found = {name: p for name, p in names.items() if any(fnmatch.fnmatchcase(name, way) for way in ways)}
    if found:
        return found
    parts = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)}
    near = difflib.get_close_matches(pattern, sorted(parts), 1, 0)
    raise ValueError(f"{where}: the network has no parameter {pattern!r}; did you mean {near[0]}?")


def freeze(net: Block, patterns: Sequence[str]) -> List[str]:
    """Keep parameters as they are while the rest of a network learns; return their names.

    They get no gradient, and so no weight decay and no momentum. A BN layer whose learned parameters, or statistics,
    are among them normalizes by its running statistics, as in evaluation, and leaves these alone.

    Args:
        net: Before its first forward pass.
        patterns: See `parameters_of`.

    Raises:
        ValueError: A pattern fits nothing, nothing is left to learn, or the network has several widths.
    """
    if not patterns:
        return []
    if isinstance(net, SlimmableNet):
        raise ValueError(
            f"freeze does not go with {net.identity['model']}, whose widths share their parameters: leave it out "
            "(the tasks recalibrate and gate choose by themselves what learns)"
        )
    frozen: Dict[str, Parameter] = {}
    for pattern in patterns:
        frozen.update(parameters_of(net, pattern, "freeze"))
    kept = set(frozen.values())
    for layer in statistics_layers(net):
        if _is_kept(layer, kept):
            layer._kwargs["use_global_stats"] = True
            kept.update((layer.running_mean, layer.running_var))
    for param in kept:
        param.grad_req = "null"
    if all(param.grad_req == "null" for param in net.collect_params().values()):
        raise ValueError(f"freeze: {', '.join(patterns)} is the whole network, and leaves nothing to learn")
    return [name for name, param in net._collect_params_with_prefix().items() if param in kept]


def _is_kept(layer: nn.BatchNorm, kept: set) -> bool:
    return {layer.gamma, layer.beta} <= kept or bool({layer.running_mean, layer.running_var} & kept)


def set_rates(net: Block, factors: Mapping[str, Any]) -> Dict[str, int]:
    """Let parts of a network learn at a rate of their own; return {pattern: number of its parameters}.

    Of several patterns that fit a parameter the last one counts. Every optimizer reads these factors.

    Args:
        net: The network.
        factors: {pattern: factor of the learning rate}; see `parameters_of`.

    Raises:
        ValueError: A pattern fits nothing, or a factor is not above 0.
    """
    chosen: Dict[Parameter, str] = {}
    for pattern, factor in factors.items():
        where = "optimizer.lr_factors"
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor < float("inf"):
            what = f"{where}.{pattern} is {factor!r}"
            raise ValueError(f"{what}; it must be a number above 0 (freeze keeps parts as they are)")
        for param in parameters_of(net, str(pattern), where).values():
            chosen[param] = pattern
            param.lr_mult = float(factor)
    learning = [pattern for param, pattern in chosen.items() if param.grad_req != "null"]
    return {pattern: learning.count(pattern) for pattern in factors}
