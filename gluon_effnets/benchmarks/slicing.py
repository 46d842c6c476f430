"""A quarter of ResNet-50's channels in five ways, timed: DS-Net's table of what makes a dynamic width fast."""

from __future__ import annotations

import time
from typing import Dict, List, NamedTuple, Optional

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ..deploy.graph.inference import network_graph, static_block
from ..deploy.graph.static import static_graph
from ..deploy.to_mxnet.variants import prepare
from ..models import get_model, model_info
from ..models.slimmable import SlimmableNet
from ..nn import ConvBN
from ..nn.init import initialize_like_trained
from ..nn.slimmable import SlicedConv2D
from ..tables import Table
from ..timing import Speedup, speedup, time_interleaved
from .steps import inference_step

__all__ = ["SlicingRow", "compare_slicing", "slicing_table"]

SHARE = 4  # a quarter: the slimmest of the networks below


class SlicingRow(NamedTuple):
    """Milliseconds for one image, and how many times as fast as 'ideal' it is.

    `difference`: of the logits from 'ideal', relative to the largest logit.
    """

    variant: str
    minimum: float
    median: float
    over_ideal: Speedup
    difference: Optional[float]


def compare_slicing(
    name: str = "slimmable_resnet50", image_size: Optional[int] = None, repeats: int = 10, clock=time.perf_counter
) -> List[SlicingRow]:
    """Time one image through the slimmest width of a network, hybridized, in every variant, interleaved.

    'full': all channels. 'mask': all channels, three quarters of every map then multiplied by 0. 'index': weights
    gathered by index. 'slice': weights sliced in the graph, at every call. 'ideal': a network that has no other
    weights. 'exported': that, with BN folded and oneDNN's fusions.
    """
    size = image_size or model_info(name).input_size
    nets = {variant: get_model(name) for variant in ("full", "mask", "index", "slice")}
    initialize_like_trained(nets["full"])
    weights = nets["full"]._collect_params_with_prefix()
    for variant, net in nets.items():
        if variant != "full":
            net.initialize(mx.init.Zero())
            for key, param in net._collect_params_with_prefix().items():
                param.set_data(weights[key].data())
    nets["mask"].apply(_mask)
    subnets = {variant: nets[variant].subnet(0) for variant in ("index", "slice")}
    subnets["index"].apply(_index)
    blocks: Dict[str, HybridBlock] = {"full": nets["full"], "mask": nets["mask"], **subnets}
    for block in blocks.values():
        block.hybridize(static_alloc=True, static_shape=True)
    blocks["ideal"] = prepare(_slimmest(nets["full"], fold=False), "plain")
    blocks["exported"] = prepare(_slimmest(nets["full"], fold=True), "fused")
    x = mx.nd.random.normal(shape=(1, nets["full"].in_channels, size, size))
    logits = {variant: block(x).asnumpy() for variant, block in blocks.items()}
    calls = {variant: inference_step(block, x) for variant, block in blocks.items()}
    ideal, times = logits["ideal"], time_interleaved(calls, repeats, clock)
    rows = []
    for variant, found in logits.items():
        difference = None if variant == "full" else float(np.abs(found - ideal).max() / np.abs(ideal).max())
        over = speedup(times[variant].samples, times["ideal"].samples)
        rows.append(SlicingRow(variant, *times[variant][:2], over, difference))
    return rows


def _slimmest(net: SlimmableNet, fold: bool) -> mx.gluon.SymbolBlock:
    return static_block(static_graph(*network_graph(net.subnet(0)), fold))


class _Masked(ConvBN):
    def hybrid_forward(self, F, x):
        channels = self.conv.weight.shape[0]
        mask = F.reshape(F.arange(channels) < channels // SHARE, (1, -1, 1, 1))
        return F.broadcast_mul(super().hybrid_forward(F, x), mask)


class _Indexed(SlicedConv2D):
    def hybrid_forward(self, F, x, weight, bias=None):
        for axis in (0, 1):
            weight = F.take(weight, F.arange(self.active["weight"][axis]), axis=axis)
        return F.Convolution(x, weight, **self._kwargs)


def _mask(block) -> None:
    if type(block) is ConvBN:
        block.__class__ = _Masked


def _index(block) -> None:
    if type(block) is SlicedConv2D:
        block.__class__ = _Indexed


def slicing_table(rows: List[SlicingRow]) -> Table:
    """The rows as a table."""
    columns = [
        "variant",
        ("minimum, ms", ".2f"),
        ("median, ms", ".2f"),
        "times as fast as ideal",
        ("difference", ".0e"),
    ]
    lines = [(*row[:3], None if row.variant == "ideal" else str(row.over_ideal), row.difference) for row in rows]
    return Table(columns, lines)
