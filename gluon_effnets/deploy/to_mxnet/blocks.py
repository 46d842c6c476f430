"""A network's graph of inference as blocks, plain and with oneDNN's fused operators, and their latency."""

from __future__ import annotations

from typing import Dict

import mxnet as mx

from ...timing import Latency, time_interleaved
from ..graph.inference import inference_copy

__all__ = ["graph_blocks", "measure_latency"]


def graph_blocks(net, x: mx.nd.NDArray) -> Dict[str, mx.gluon.SymbolBlock]:
    """Copies of a network's graph for inference: 'plain' hybridized, and 'fused' with oneDNN's fusions (for `x`).

    The network itself is left alone: a fused block gives zero gradients.
    """
    blocks = {}
    for kind in ("plain", "fused"):
        block = inference_copy(net)
        if kind == "fused":
            block.optimize_for(x, backend="MKLDNN", static_alloc=True, static_shape=True)
        else:
            block.hybridize(static_alloc=True, static_shape=True)
        blocks[kind] = block
    return blocks


def measure_latency(net, image_size: int = 224, batch: int = 1, repeats: int = 20) -> Dict[str, Latency]:
    """Latency of a network on the CPU: 'plain' (hybridized) and 'fused' (as an exported graph runs at its best)."""
    x = mx.nd.random.uniform(shape=(batch, net.in_channels, image_size, image_size))
    blocks = graph_blocks(net, x)
    return time_interleaved({form: lambda b=block: b(x).wait_to_read() for form, block in blocks.items()}, repeats)
