"""Latency of networks: interleaved repetitions, minimum and median, plain and with oneDNN's fused graph."""

from __future__ import annotations

import time
from typing import Callable, Dict, NamedTuple

import mxnet as mx
import numpy as np

__all__ = ["Latency", "graph_blocks", "initialize_lively", "measure_latency", "time_interleaved"]


class Latency(NamedTuple):
    """Milliseconds for one batch."""

    minimum: float
    median: float


def time_interleaved(calls: Dict[str, Callable[[], None]], repeats: int = 20, clock=time.perf_counter):
    """Time every call `repeats` times, one after the other in turn, so that disturbances meet all alike.

    `clock=time.process_time` counts the processor's time instead, which other processes disturb less (use one thread).
    Returns {name: Latency} without a first, warming call.
    """
    times: Dict[str, list] = {name: [] for name in calls}
    for round_number in range(repeats + 1):
        for name, call in calls.items():
            begin = clock()
            call()
            if round_number:
                times[name].append((clock() - begin) * 1e3)
    return {name: Latency(min(values), float(np.median(values))) for name, values in times.items()}


def initialize_lively(net) -> None:
    """Random weights that keep the signal's size through an untrained network, as training does.

    The speed of MXNet's h-swish depends on its values (by a fifth of MobileNetV3's latency), so that networks can be
    compared only with signals of equal size; most initializers let them fade.
    """
    mx.random.seed(0)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))


def graph_blocks(net, x: mx.nd.NDArray) -> Dict[str, mx.gluon.SymbolBlock]:
    """Copies of a network's graph for inference: 'plain' hybridized, and 'fused' with oneDNN's fusions (for `x`).

    The network itself is left alone: a fused block gives zero gradients.
    """
    blocks = {}
    for kind in ("plain", "fused"):
        data = mx.sym.var("data", dtype="float32")
        block = mx.gluon.SymbolBlock(net(data), data)
        arrays = {name: param.data() for name, param in net.collect_params().items()}
        for name, param in block.collect_params().items():
            param._load_init(arrays[name].as_in_context(mx.cpu()), mx.cpu())
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
    return time_interleaved({k: lambda b=b: b(x).wait_to_read() for k, b in blocks.items()}, repeats)
