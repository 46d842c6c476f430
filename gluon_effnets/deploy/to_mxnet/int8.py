"""8-bit quantization after training with MXNet's oneDNN kernels."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.contrib.quantization import quantize_net_v2

from ...models import ClassificationNet
from ..graph.inference import StaticGraph, inference_graph, network_graph, static_block
from .files import write_symbol_files

__all__ = ["GRANULARITIES", "quantize", "write_int8_symbol_files"]

log = logging.getLogger(__name__)

GRANULARITIES = ("tensor-wise", "channel-wise")
CALIBRATIONS = ("naive", "entropy")
_BATCH = 32
_LOG_LINE = re.compile(rb"\[\d\d:\d\d:\d\d\] \S+\.cc:\d+: ")
_LAYERS = ("_sg_mkldnn_conv", "_sg_mkldnn_fully_connected", "Convolution", "FullyConnected")


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
    return _quantized(network_graph(net), calibration, granularity, calibration_mode)


def write_int8_symbol_files(
    graph: StaticGraph, images: np.ndarray, prefix: Path, tail: Optional[StaticGraph] = None
) -> Tuple[Tuple[Path, ...], List[str]]:
    """Write <prefix>-symbol.json and <prefix>-0000.params of a graph in 8 bits.

    Returns the files and the names of the layers left in float32.

    Parameters
    ----------
    images : (N, C, H, W) as the graph takes them; they fix the ranges.
    tail : what comes behind the graph in float32, from inputs of the names `logits` and `offsets`.
    """
    batches = [mx.nd.array(images[begin : begin + _BATCH]) for begin in range(0, len(images), _BATCH)]
    quantized = network_graph(_quantized(graph, batches))
    float_layers = [
        node["name"]
        for node in json.loads(quantized.symbol.tojson())["nodes"]
        if node["op"] in _LAYERS and node.get("attrs", {}).get("quantized") not in ("true", "True")
    ]
    if tail is not None:
        logits, offsets = quantized.symbol
        quantized = StaticGraph(tail.symbol(logits=logits, offsets=offsets), {**quantized.arrays, **tail.arrays})
    return write_symbol_files(*quantized, prefix), float_layers


def _quantized(
    graph: StaticGraph,
    calibration: Sequence[mx.nd.NDArray],
    granularity: str = "channel-wise",
    calibration_mode: str = "naive",
) -> mx.gluon.SymbolBlock:
    for value, choices in ((granularity, GRANULARITIES), (calibration_mode, CALIBRATIONS)):
        if value not in choices:
            raise ValueError(f"{value!r} is not a choice here; choose one of {', '.join(choices)}")
    if not len(calibration):
        raise ValueError("quantization needs at least one batch of images for calibration")
    silent = logging.getLogger(f"{__name__}.mxnet")
    silent.setLevel(logging.ERROR)
    # The quantizer hybridizes and converts what it gets, a copy of the network.
    block = static_block(graph)
    block.hybridize()
    with _without_its_log(), warnings.catch_warnings():
        # MXNet cannot know the type of the input, nor need it.
        warnings.filterwarnings("ignore", message="Cannot decide type")
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


@contextlib.contextmanager
def _without_its_log() -> Iterator[None]:
    """Within it, MXNet's library does not write lines for every layer; what others write comes at the end."""
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        terminal = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            kept.seek(0)
            os.write(2, b"".join(line for line in kept if not _LOG_LINE.match(line)))


def _failing_in_8_bits(block: mx.gluon.SymbolBlock) -> List[str]:
    """MXNet 1.9.1 stops at h-swish, x * gate(x), in 8 bits: there products and the sums beside them stay in float32."""
    nodes = json.loads(inference_graph(block).tojson())["nodes"]
    return ["elemwise_mul", "elemwise_add"] if any(node["op"] == "elemwise_mul" for node in nodes) else []


def _wrong_in_8_bits(block: mx.gluon.SymbolBlock) -> List[str]:
    """Names of the fused convolutions that MXNet 1.9.1 computes wrongly in 8 bits.

    They add what comes out of an activation, stored without a sign, to a result with a sign: logits are off by half of
    their standard deviation. Inverted residuals add linear outputs alone; in MobileNeXt two shortcuts begin at a ReLU6.
    """
    nodes = json.loads(inference_graph(block).get_backend_symbol("MKLDNN_QUANTIZE").tojson())["nodes"]

    def has(node, attribute):
        return node.get("attrs", {}).get(attribute) == "true"

    return [
        node["name"]
        for node in nodes
        if node["op"] == "_sg_mkldnn_conv" and has(node, "with_sum") and has(nodes[node["inputs"][-1][0]], "with_act")
    ]
