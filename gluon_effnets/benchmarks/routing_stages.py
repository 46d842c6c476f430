"""A network with a gate in every stage, timed: routed against the static network of the same path."""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np

from ..complexity import count
from ..deploy.export import export_routed
from ..deploy.graph.inference import Array, network_graph, static_block
from ..deploy.graph.static import static_graph
from ..deploy.routed.files import load_routed
from ..deploy.routed.router import static_subnet
from ..deploy.routed.stages import StagedRouter, before_gate
from ..deploy.to_mxnet.variants import prepare
from ..deploy.to_onnx.files import onnx_runner, write_onnx_file
from ..models import ModelInfo
from ..models.slimmable import SlimmableNet
from ..nn.init import initialize_like_trained
from ..tables import Table
from ..timing import speedup, time_interleaved
from .routing import RoutingRow, features_of, run_each, separating_weights

__all__ = ["compare_staged_routing", "mix_paths", "staged_routing_table"]

_PATHS = 3  # of those that images take, as many are compared


def mix_paths(net: SlimmableNet, images: mx.nd.NDArray) -> None:
    """Set the weights of all gates so that `images` take all candidates of each, about equally many."""
    assert net.gating is not None, "staged_graphs refuses a network without gates"
    for gate in range(net.num_choices):
        paths = net.route(images).asnumpy().tolist()  # as far as the gates before have been set
        features = []
        for number, path in enumerate(paths):
            blocks, reads = before_gate(net, gate, path)
            x = images[number : number + 1]
            for block in blocks:
                x = block(x)
            features.append(features_of(reads, x))
        weights = separating_weights(np.concatenate(features), net.gating.num_candidates)
        net.gates[gate].gate.weight.set_data(weights)


def compare_staged_routing(
    net: SlimmableNet,
    image_size: Optional[int] = None,
    repeats: int = 20,
    clock=time.perf_counter,
    variant: str = "fused",
    batch: int = 16,
    onnx: bool = False,
) -> List[RoutingRow]:
    """Time random images one by one: routed, and by the static network of the path that the image takes.

    `onnx`: in ONNX Runtime, too. The weights become random ones. Raises ValueError as `staged_graphs` does, and for an
    unknown variant (see `prepare`).
    """
    size = image_size or (net.info or ModelInfo).input_size
    initialize_like_trained(net)
    scale = mx.nd.random.uniform(0.2, 2, shape=(batch, 1, 1, 1))
    images = mx.nd.random.normal(shape=(batch, net.in_channels, size, size)) * scale
    mix_paths(net, images)
    paths = net.route(images).asnumpy()
    taken, first, number = np.unique(paths, axis=0, return_index=True, return_counts=True)
    compared = [(tuple(taken[i].tolist()), int(first[i])) for i in np.argsort(-number)[:_PATHS]]
    statics = {path: static_subnet(net, path) for path, _ in compared}
    runtimes: Dict[str, Tuple[Callable, Dict[tuple, Callable], Array]] = {
        "MXNet": (
            StagedRouter.of(net, variant),
            {
                path: prepare(static_block(static_graph(*network_graph(block))), variant)
                for path, block in statics.items()
            },
            images,
        )
    }
    if onnx:
        with tempfile.TemporaryDirectory() as folder:
            prefix, shape = Path(folder) / "net", images.shape[1:]
            ways = {
                path: onnx_runner(write_onnx_file(*network_graph(block), prefix, shape, 1))
                for path, block in statics.items()
            }
            single = load_routed(export_routed(net, prefix, size, format="onnx", single_file=True))
        runtimes["ONNX Runtime"] = (single, ways, images.asnumpy())
    cases: Dict[Tuple[str, str, str], Callable[[], None]] = {}
    madds: Dict[Tuple[str, str, str], float] = {}
    for runtime, (router, ways, given) in runtimes.items():
        for path, place in compared:
            name = "-".join(map(str, path))
            image = [given[place : place + 1]]
            for kind, run in ((f"static, path {name}", ways[path]), (f"routed to path {name}", router)):
                cases[runtime, kind, "1"] = functools.partial(run_each, run, image)
                madds[runtime, kind, "1"] = count(statics[path], size).madds
    times = time_interleaved(cases, repeats, clock)
    return [RoutingRow(*key, *times[key][:2], madds[key], times[key].samples) for key in cases]


def staged_routing_table(rows: List[RoutingRow]) -> Tuple[Table, str]:
    """The rows as a table, and as lines what routing costs beside the static network of each path."""
    columns = ["runtime", "network", "images", ("minimum, ms", ".2f"), ("median, ms", ".2f"), ("MAdds, M", ".0f")]
    table, lines = Table(columns, [(*row[:5], row.madds / 1e6) for row in rows]), []
    by_name = {row[:2]: row for row in rows}
    for row in rows:
        if row.network.startswith("routed to "):
            name = row.network.replace("routed to", "static,")
            over = speedup(row.samples, by_name[row.runtime, name].samples).over(name)
            lines.append(f"{row.runtime}, {row.network}: {over}")
    return table, "\n".join(lines)
