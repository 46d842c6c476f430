"""8-bit quantization after training with MXNet's oneDNN kernels."""

from __future__ import annotations

import json
import logging
from typing import List, Sequence

import mxnet as mx
from mxnet.contrib.quantization import quantize_net_v2

from ...models import ClassificationNet
from ..graph.inference import inference_copy

__all__ = ["GRANULARITIES", "quantize"]

log = logging.getLogger(__name__)

GRANULARITIES = ("tensor-wise", "channel-wise")
CALIBRATIONS = ("naive", "entropy")


def quantize(
    net: ClassificationNet,
    calibration: Sequence[mx.nd.NDArray],
    granularity: str = "channel-wise",
    calibration_mode: str = "naive",
) -> mx.gluon.SymbolBlock:
    """Return a copy of a trained network with 8-bit convolutions and activations, on the CPU.

    What MXNet would get wrong stays in float32: two convolutions in a MobileNeXt, none in a MobileNetV2, and the
    multiplications of h-swish and squeeze-and-excitation with the sums beside them.

    Parameters
    ----------
    calibration : batches (N, C, H, W) of normalized training images, all of one shape; they fix the ranges.
    granularity : one range for all weights of a convolution ('tensor-wise'), or one for each output channel
        ('channel-wise').
    calibration_mode : range of an activation: least and largest value ('naive'), or least information lost ('entropy').

    Raises ValueError for another granularity or mode, or without images.
    """
    for value, choices in ((granularity, GRANULARITIES), (calibration_mode, CALIBRATIONS)):
        if value not in choices:
            raise ValueError(f"{value!r} is not a choice here; choose one of {', '.join(choices)}")
    if not len(calibration):
        raise ValueError("quantization needs at least one batch of images for calibration")
    silent = logging.getLogger(f"{__name__}.mxnet")
    silent.setLevel(logging.ERROR)
    # The quantizer hybridizes and converts what it gets; the network must stay as it is.
    block = inference_copy(net)
    block.hybridize()
    block = quantize_net_v2(
        block,
        exclude_layers=_wrong_in_8_bits(block),
        exclude_operators=_failing_in_8_bits(block),
        quantized_dtype="auto",
        quantize_mode="smart",
        quantize_granularity=granularity,
        calib_data=[[batch.as_in_context(mx.cpu())] for batch in calibration],
        calib_mode=calibration_mode,
        num_calib_examples=sum(map(len, calibration)),
        ctx=mx.cpu(),
        logger=silent,
    )
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def _failing_in_8_bits(block: mx.gluon.SymbolBlock) -> List[str]:
    """MXNet 1.9.1 stops at h-swish, x * gate(x), in 8 bits: there products and the sums beside them stay in float32."""
    nodes = json.loads(block(mx.sym.var("data")).tojson())["nodes"]
    return ["elemwise_mul", "elemwise_add"] if any(node["op"] == "elemwise_mul" for node in nodes) else []


def _wrong_in_8_bits(block: mx.gluon.SymbolBlock) -> List[str]:
    """Names of the fused convolutions that MXNet 1.9.1 computes wrongly in 8 bits.

    They add what comes out of an activation, stored without a sign, to a result with a sign: logits are off by half of
    their standard deviation. Inverted residuals add linear outputs alone; in MobileNeXt two shortcuts begin at a ReLU6.
    """
    nodes = json.loads(block(mx.sym.var("data")).get_backend_symbol("MKLDNN_QUANTIZE").tojson())["nodes"]

    def has(node, attribute):
        return node.get("attrs", {}).get(attribute) == "true"

    return [
        node["name"]
        for node in nodes
        if node["op"] == "_sg_mkldnn_conv" and has(node, "with_sum") and has(nodes[node["inputs"][-1][0]], "with_act")
    ]
