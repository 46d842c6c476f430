"""Networks as they run fastest on a CPU: equal outputs from graphs that oneDNN likes."""

from __future__ import annotations

from typing import Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ...models import ClassificationNet
from ...models.condensenet import CondenseNet
from ...models.shufflenetv1 import ShuffleNet
from .condensenet import condensenet_blocks
from .shufflenet import is_second_version, shufflenet_blocks

__all__ = ["FORMS", "aligned", "aligned_forms"]

FORMATS = ("mxnet", "onnx", "openvino")
FORMS = ("auto", "grouped", "dense", "pieces")


def aligned(net: ClassificationNet, form: str = "auto", format: str = "mxnet") -> HybridBlock:
    """Return a network for inference alone that gives the logits of a trained ShuffleNet or CondenseNet.

    It takes the same images (N, in_channels, H, W), and has BN folded into convolutions.

    ShuffleNets: zeros fill the bottlenecks' groups (V1) and all halves (V2) up to multiples of 8 channels, which are
    sorted so that ShuffleNetV1's shuffle moves whole blocks of them. CondenseNets, pruned completely or condensed:
    every layer is computed in the variant that was measured to be the cheapest in the runtime, for images of the
    network's usual size (docs/condensenet.md).

    Args:
        net: The trained network.
        form: Of ShuffleNets' channels. 'grouped' keeps groups, shuffles and splits; 'dense' folds them into
            convolutions over all channels, with zeros between the groups (V1) or for the channels that pass (V2);
            'pieces' (V2 alone) cuts the last convolutions into one for every later reader, which joins what it reads,
            so that nothing is shuffled or split; 'auto' takes what was measured to be faster (docs/shufflenet.md).
        format: 'mxnet' or 'onnx', in whose runtime the network is to be fast: the choices of 'auto' for V2 differ, and
            ONNX Runtime wants a stem with a multiple of 16 channels. 'openvino': an ONNX file that is to be fast there,
            in 'auto' with the pieces of V2 cut from one convolution's result, without zeros.

    Raises ValueError for another form, format or network, and for unfinished pruning.

    Example: `fast = aligned(get_model("shufflenet_v2_x1_0", pretrained="w.params"), format="onnx")`
    """
    if form not in aligned_forms(net):
        known = ", ".join(aligned_forms(net))
        name = net.info.name if net.info else type(net).__name__
        if not known:
            raise ValueError(f"{name} has no aligned form: it is for ShuffleNets and CondenseNets, which need it")
        raise ValueError(f"form is {form!r}; choose one of {known} for {name}")
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
    result = nn.HybridSequential(prefix="aligned_")
    with result.name_scope():
        blocks = (
            condensenet_blocks(net, format) if isinstance(net, CondenseNet) else shufflenet_blocks(net, form, format)
        )
        for block in blocks:
            result.add(block)
    result.in_channels, result.card = net.in_channels, net.card
    return result


def aligned_forms(net: ClassificationNet) -> Tuple[str, ...]:
    """Return the forms that `aligned` has for a network; none for most."""
    if isinstance(net, CondenseNet):
        return FORMS[:1]
    if not isinstance(net, ShuffleNet):
        return ()
    return FORMS if is_second_version(net) else FORMS[:3]
