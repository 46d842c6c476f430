"""A network with a gate, timed: routed against masked, against the static networks of its widths, and MobileNetV1."""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ..complexity import count
from ..deploy.compiled.run import compiled_where_right
from ..deploy.export import export_routed
from ..deploy.graph.inference import Array, network_graph, static_block
from ..deploy.graph.static import static_graph
from ..deploy.routed.files import load_routed
from ..deploy.routed.router import RoutedOutput, Router, before_decision, static_subnet
from ..deploy.to_mxnet.variants import prepare
from ..deploy.to_onnx.files import onnx_runner, write_onnx_file
from ..models import ModelInfo, get_model
from ..models.slimmable import Gating, SlimmableNet
from ..nn.gate import DoubleHeadedGate
from ..nn.init import initialize_like_trained
from ..tables import Table
from ..timing import speedup, time_interleaved

__all__ = [
    "RoutingRow",
    "RoutingTimes",
    "compare_routing",
    "features_of",
    "mix_decisions",
    "routing_table",
    "run_each",
    "separating_weights",
]

BASELINE = "mobilenet_v1_x1_0"


class RoutingRow(NamedTuple):
    """Milliseconds for a call. `images`: what it runs on; `madds`: mean of an image; `samples`: every repetition's."""

    runtime: str
    network: str
    images: str
    minimum: float
    median: float
    madds: float
    samples: Tuple[float, ...]


class RoutingTimes(NamedTuple):
    """The rows, and how many of the images each width got."""

    rows: List[RoutingRow]
    histogram: Dict[int, int]


class _Runtime(NamedTuple):
    """`static`: networks without decisions; `routers`: images -> RoutedOutput; both for arrays like `images`."""

    name: str
    images: Array
    static: Dict[str, Callable[[Array], Array]]
    routers: Dict[str, Callable[[Array], RoutedOutput]]


class _Case(NamedTuple):
    runtime: str
    network: str
    images: str
    call: Callable[[], None]
    madds: float


def mix_decisions(net: SlimmableNet, images: mx.nd.NDArray) -> None:
    """Set the weights of a gate so that `images` take all its candidates, about equally many each.

    What differs most between the images' reduced features decides: candidate k is the nearest of as many points.
    """
    before, gate = before_decision(net)
    x = images
    for block in before:
        x = block(x)
    weights = separating_weights(features_of(gate, x), _gating(net).num_candidates)
    net.gates[0].gate.weight.set_data(weights)


def features_of(gate: DoubleHeadedGate, maps: mx.nd.NDArray) -> np.ndarray:
    """What the slimming head of a gate decides by, (N, reduced), for maps (N, C, H, W)."""
    head = gate.head
    assert head is not None, "a gate that decides"
    reads: Any = gate if head.reduce is None else head
    return reads.act(reads.reduce(gate.pool(maps))).asnumpy().reshape(len(maps), -1).astype(np.float64)


def separating_weights(features: np.ndarray, candidates: int) -> mx.nd.NDArray:
    """The weights of a slimming head with which features (N, reduced) take all candidates, about equally many each."""
    direction = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[2][0]
    position = features @ direction
    points = np.quantile(position, (np.arange(candidates) + 0.5) / candidates)
    # The head has no bias: these weights give 1 for every image instead.
    one = np.linalg.lstsq(features, np.ones(len(features)), rcond=None)[0]
    weights = 2 * points[:, None] * direction - points[:, None] ** 2 * one
    return mx.nd.array((weights / np.abs(weights).max())[:, :, None, None])


def compare_routing(
    net: SlimmableNet,
    image_size: Optional[int] = None,
    repeats: int = 20,
    clock=time.perf_counter,
    variant: str = "fused",
    batch: int = 32,
    onnx: bool = False,
) -> RoutingTimes:
    """Time random images with mixed decisions, one by one and in a batch, through every way to run a new network.

    `onnx`: in ONNX Runtime, too. The weights become random ones. Raises ValueError for a network without exactly one
    gate, and for an unknown variant (see `prepare`).
    """
    size = image_size or (net.info or ModelInfo).input_size
    initialize_like_trained(net)
    scale = mx.nd.random.uniform(0.2, 2, shape=(batch, 1, 1, 1))
    images = mx.nd.random.normal(shape=(batch, net.in_channels, size, size)) * scale
    mix_decisions(net, images)
    baseline = get_model(BASELINE)
    initialize_like_trained(baseline)
    statics = {f"static, width {width}": static_subnet(net, width) for width in _widths(net)}
    statics["static, largest"] = static_subnet(net, "largest")
    madds: Dict[str, float] = {name: count(block, size).madds for name, block in statics.items()}
    madds.update({"masked": madds[f"static, width {_widest(net)}"], BASELINE: count(baseline, size).madds})
    statics[BASELINE] = baseline
    runtimes = [_in_mxnet(net, statics, variant, images)]
    decisions = runtimes[0].routers["routed"](images).decisions
    if onnx:
        runtimes.append(_in_onnx_runtime(net, statics, images.asnumpy()))
    rows = _timed([case for runtime in runtimes for case in _of_one_image(runtime, madds, decisions)], repeats, clock)
    madds["routed"] = float(np.mean([madds[f"static, width {width}"] for width in decisions]))
    compared = [f"static, width {width}" for width in sorted({_widest(net), net.num_widths - 1})]
    compared += ["masked", BASELINE]
    cases = [case for runtime in runtimes for case in _of_all_images(runtime, compared, madds)]
    rows += _timed(cases, max(min(repeats, 6), repeats // 4), clock)
    widths, numbers = np.unique(decisions, return_counts=True)
    return RoutingTimes(rows, dict(zip(widths.tolist(), numbers.tolist())))


def _gating(net: SlimmableNet) -> Gating:
    assert net.gating is not None, "before_decision refuses a network without gates"
    return net.gating


def _widest(net: SlimmableNet) -> int:
    gating = _gating(net)
    return gating.first_candidate + gating.num_candidates - 1


def _widths(net: SlimmableNet) -> List[int]:
    """The indices of all candidates, and of the widest width."""
    return sorted({*range(_gating(net).first_candidate, _widest(net) + 1), net.num_widths - 1})


def _in_mxnet(net: SlimmableNet, statics: Dict[str, HybridBlock], variant: str, images: mx.nd.NDArray) -> _Runtime:
    ways = {}
    for name, block in statics.items():
        graph = static_graph(*network_graph(block))
        prepared = prepare(static_block(graph), "fused" if variant == "compiled" else variant)
        ways[name] = compiled_where_right(graph, prepared) if variant == "compiled" else prepared
    net.hybridize(static_alloc=True, static_shape=True)
    ways["masked"] = lambda x: net.dynamic(x).logits
    return _Runtime("MXNet", images, ways, {"routed": Router.of(net, variant)})


def _in_onnx_runtime(net: SlimmableNet, statics: Dict[str, HybridBlock], images: np.ndarray) -> _Runtime:
    shape, size = images.shape[1:], images.shape[-1]
    with tempfile.TemporaryDirectory() as folder:
        prefix, ways = Path(folder) / "net", {}
        for name, block in statics.items():
            ways[name] = onnx_runner(write_onnx_file(*network_graph(block), prefix, shape))
        several = load_routed(export_routed(net, prefix, size, format="onnx"))
        single = load_routed(export_routed(net, prefix, size, format="onnx", single_file=True))
    return _Runtime("ONNX Runtime", images, ways, {"routed": several, "routed in one file": single})


def _of_one_image(runtime: _Runtime, madds: Dict[str, float], decisions: np.ndarray) -> List[_Case]:
    """Every way on one image, and routing to every width that occurs, on the first image that takes it."""
    images = runtime.images

    def case(name: str, run: Callable, place: int, cost: float) -> _Case:
        return _Case(runtime.name, name, "1", functools.partial(run_each, run, [images[place : place + 1]]), cost)

    cases = [case(name, run, 0, madds[name]) for name, run in runtime.static.items()]
    for name, router in runtime.routers.items():
        for width, place in zip(*np.unique(decisions, return_index=True)):
            cases.append(case(f"{name} to width {width}", router, int(place), madds[f"static, width {width}"]))
    return cases


def _of_all_images(runtime: _Runtime, compared: List[str], madds: Dict[str, float]) -> List[_Case]:
    """Networks and routers on all images, one by one and at once; the masked one and the single file one way alone."""
    images, number, cases = runtime.images, len(runtime.images), []
    singles = [images[i : i + 1] for i in range(number)]
    ways = {name: runtime.static[name] for name in compared if name in runtime.static}
    for name, run in {**ways, **runtime.routers}.items():
        cost = madds.get(name, madds["routed"])
        if name != "routed in one file":
            cases.append(_Case(runtime.name, name, f"1 x {number}", functools.partial(run_each, run, [images]), cost))
        if name != "masked":
            cases.append(_Case(runtime.name, name, f"{number} x 1", functools.partial(run_each, run, singles), cost))
    return cases


def run_each(run: Callable[[Array], Union[Array, RoutedOutput]], inputs: List[Array]) -> None:
    """Run one input after the other, and wait for each: MXNet computes behind the call's back."""
    for x in inputs:
        output = run(x)
        logits = output.logits if isinstance(output, RoutedOutput) else output
        if isinstance(logits, mx.nd.NDArray):
            logits.wait_to_read()


def _timed(cases: List[_Case], repeats: int, clock) -> List[RoutingRow]:
    times = time_interleaved({case[:3]: case.call for case in cases}, repeats, clock)
    rows = []
    for case in cases:
        found = times[case[:3]]
        rows.append(
            RoutingRow(case.runtime, case.network, case.images, found.minimum, found.median, case.madds, found.samples)
        )
    return rows


def routing_table(times: RoutingTimes) -> Tuple[Table, str]:
    """The rows as a table, and the comparisons that matter as lines."""
    columns = ["runtime", "network", "images", ("minimum, ms", ".2f"), ("median, ms", ".2f"), ("MAdds, M", ".0f")]
    table = Table(columns, [(*row[:5], row.madds / 1e6) for row in times.rows])
    shares = ", ".join(f"width {width}: {number}" for width, number in times.histogram.items())
    lines = [f"decisions: {shares}"]
    for runtime in dict.fromkeys(row.runtime for row in times.rows):
        lines += _comparisons(runtime, {row[1:3]: row for row in times.rows if row.runtime == runtime})
    return table, "\n".join(lines)


def _comparisons(runtime: str, rows: Dict[Tuple[str, str], RoutingRow]) -> List[str]:
    """Of one runtime's rows, by network and images."""
    baseline, lines = rows[BASELINE, "1"], []
    for (name, images), row in rows.items():
        if name.startswith("routed") and images == "1":
            static = f"static, width {name.split()[-1]}"
            over = [
                speedup(row.samples, rows[static, "1"].samples).over(static),
                speedup(row.samples, baseline.samples).over(BASELINE),
            ]
            lines.append(f"{runtime}, {name}: {', '.join(over)}")
    for (name, images), row in rows.items():
        if images != "1" and name.startswith("static, width"):
            routed = rows["routed", images]
            faster, fewer = speedup(routed.samples, row.samples), row.madds / routed.madds
            lines.append(f"{runtime}, routed, {images}: {faster.over(name)}, with {fewer:.2f} times fewer MAdds")
    return lines
