"""Chains of layers as one compiled operator each, in graphs of training, where `gluon_effnets.native` provides it."""

from __future__ import annotations

from typing import Optional

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .activations import HardSwish, ReLU6, Swish
from .variants import compiled_variants_active

__all__ = ["depthwise_norm_act", "norm_act"]

_NAMES = {ReLU6: "relu6", HardSwish: "hard_swish", Swish: "swish"}
KERNELS, STRIDES = (3, 5, 7), (1, 2)


def _act_name(act: Optional[HybridBlock]) -> Optional[str]:
    """What the operators call an activation, None if they have it not."""
    if act is None:
        return "none"
    if type(act) is nn.Activation:
        return "relu" if act._act_type == "relu" else None
    return _NAMES.get(type(act))


def _replaceable(bn: HybridBlock) -> bool:
    """Whether a layer is a normalization by the batch, with everything learned, as the operators compute it."""
    keys = getattr(bn, "_kwargs", {})
    return type(bn) is nn.BatchNorm and keys["axis"] == 1 and not (keys["fix_gamma"] or keys["use_global_stats"])


def _is_depthwise(conv: HybridBlock) -> bool:
    """Whether a layer is a depthwise convolution of a kernel, a stride and a layout that the operators compute."""
    if type(conv) is not nn.Conv2D or conv.act is not None:
        return False
    keys = conv._kwargs
    kernel, stride = keys["kernel"][0], keys["stride"][0]
    square = tuple(keys["kernel"]) == (kernel, kernel) and tuple(keys["stride"]) == (stride, stride)
    plain = tuple(keys["dilate"]) == (1, 1) and keys["no_bias"] and keys["layout"] == "NCHW"
    one_each = tuple(conv.weight.shape[:2]) == (keys["num_group"], 1)
    return square and plain and one_each and kernel in KERNELS and stride in STRIDES


def _norm_inputs(F, bn: nn.BatchNorm):
    # The extension API does not tell an operator to add to a gradient (grad_req "add"); `identity` is told.
    learned = [F.identity(param.var()) for param in (bn.gamma, bn.beta)]
    return [*learned, bn.running_mean.var(), bn.running_var.var()]


def _norm_keys(bn: nn.BatchNorm) -> dict:
    return {"eps": bn._kwargs["eps"], "momentum": bn._kwargs["momentum"]}


def norm_act(F, bn: HybridBlock, act: Optional[HybridBlock], x):
    """act(bn(x)) of maps (N, C, H, W); `act` may be None."""
    if not (compiled_variants_active() and _replaceable(bn)):
        x = bn(x)
        return act(x) if act is not None else x
    name = _act_name(act)
    y = F.effnets_bn_act(x, *_norm_inputs(F, bn), act=name or "none", **_norm_keys(bn))[0]
    return y if name or act is None else act(y)


def depthwise_norm_act(F, conv: nn.Conv2D, bn: HybridBlock, act: Optional[HybridBlock], x, before: int, after: int):
    """act(bn(conv(x))) of maps (N, C, H, W) and its means (N, C, 1, 1), or None where this has no compiled operator.

    `before` and `after` are the lines of zeros around x, in place of those of `conv`.
    """
    name = _act_name(act)
    if not (compiled_variants_active() and _is_depthwise(conv) and _replaceable(bn) and name):
        return None
    kernel, stride = conv._kwargs["kernel"][0], conv._kwargs["stride"][0]
    if not (0 <= before < kernel and 0 <= after < kernel):
        return None
    place = {"kernel": kernel, "stride": stride, "pad": before, "border": before + after}
    inputs = [x, F.identity(conv.weight.var()), *_norm_inputs(F, bn)]
    results = F.effnets_depthwise(*inputs, act=name, **place, **_norm_keys(bn))
    return results[0], results[1]
