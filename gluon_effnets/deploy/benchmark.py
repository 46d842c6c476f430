"""Latency of networks: interleaved repetitions, minimum and median, plain and with oneDNN's fused graph."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Hashable, NamedTuple

import mxnet as mx
import numpy as np
from mxnet import autograd

from ..nn import masked_layers
from .graphs import inference_copy, inference_graph
from .onnx_files import onnx_runner, write_onnx_file

__all__ = [
    "Latency",
    "conditions",
    "graph_blocks",
    "in_onnx_runtime",
    "initialize_lively",
    "measure_latency",
    "time_interleaved",
    "train_step",
]


class Latency(NamedTuple):
    """Milliseconds for one batch."""

    minimum: float
    median: float


def time_interleaved(calls: Dict[Hashable, Callable[[], None]], repeats: int = 20, clock=time.perf_counter):
    """Time every call `repeats` times, one after the other in turn, so that disturbances meet all alike.

    `clock=time.process_time` counts the processor's time instead, which other processes disturb less (use one thread).
    Returns {name: Latency} without a first, warming call.
    """
    times: Dict[Hashable, list] = {name: [] for name in calls}
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
    compared only with signals of equal size; most initializers let them fade. Layers that are pruned in training are
    pruned to the end.
    """
    mx.random.seed(0)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    for layer in masked_layers(net).values():
        while not layer.finished:
            layer.drop()


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


def train_step(net, batch: mx.nd.NDArray) -> Callable[[], None]:
    """Hybridize a network and return a call of one forward and backward pass that waits for its end."""
    net.hybridize(static_alloc=True, static_shape=True)

    def step():
        with autograd.record():
            loss = net(batch).mean()
        loss.backward()
        mx.nd.waitall()

    return step


def measure_latency(net, image_size: int = 224, batch: int = 1, repeats: int = 20) -> Dict[str, Latency]:
    """Latency of a network on the CPU: 'plain' (hybridized) and 'fused' (as an exported graph runs at its best)."""
    x = mx.nd.random.uniform(shape=(batch, net.in_channels, image_size, image_size))
    blocks = graph_blocks(net, x)
    return time_interleaved({form: lambda b=block: b(x).wait_to_read() for form, block in blocks.items()}, repeats)


def in_onnx_runtime(net, x: mx.nd.NDArray) -> Callable[[np.ndarray], np.ndarray]:
    """A network's graph in ONNX Runtime, for inputs of the shape of `x`. Raises ImportError without the packages."""
    arrays = {name: param.data().as_in_context(mx.cpu()) for name, param in net.collect_params().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = write_onnx_file(inference_graph(net), arrays, Path(folder) / "net", x.shape[1:], len(x))
        return onnx_runner(path)


def conditions() -> str:
    """What a measurement depends on besides the networks, in one line."""
    threads, waiting = (os.environ.get(f"OMP_{name}", "not set") for name in ("NUM_THREADS", "WAIT_POLICY"))
    return (
        f"MXNet {mx.__version__}, {os.cpu_count()} processors, OMP_NUM_THREADS {threads}, OMP_WAIT_POLICY {waiting}, "
        f"load average {os.getloadavg()[0]:.1f} at the end"
    )
