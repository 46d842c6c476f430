"""A network with a gate, timed: routed against masked, against the static networks of its widths, and MobileNetV1."""

from __future__ import annotations

import functools
import time
from typing import Callable, Dict, List, NamedTuple, Optional

import mxnet as mx
import numpy as np

from ..complexity import count
from ..models import ModelInfo, get_model
from ..models.slimmable import SlimmableNet
from .benchmark import initialize_lively, time_interleaved
from .graphs import inference_graph
from .routing import Router, before_decision, prepare, static_subnet
from .static_graphs import static_block, static_graph

__all__ = ["RoutingRow", "RoutingTimes", "compare_routing", "mix_decisions", "routing_table"]

BASELINE = "mobilenet_v1_x1_0"


class RoutingRow(NamedTuple):
    """Milliseconds for a call. `images`: what it runs on. `madds`: mean of an image."""

    network: str
    images: str
    minimum: float
    median: float
    madds: float


class RoutingTimes(NamedTuple):
    """The rows, and how many of the images each width got."""

    rows: List[RoutingRow]
    histogram: Dict[int, int]


class _Way(NamedTuple):
    run: Callable[[mx.nd.NDArray], mx.nd.NDArray]
    madds: float


class _Case(NamedTuple):
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
    pooled, reads = gate.pool(x), gate if gate.head.reduce is None else gate.head
    features = reads.act(reads.reduce(pooled)).asnumpy().reshape(len(images), -1).astype(np.float64)
    direction = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[2][0]
    position = features @ direction
    candidates = net.gating.num_candidates
    points = np.quantile(position, (np.arange(candidates) + 0.5) / candidates)
    # The head has no bias: these weights give 1 for every image instead.
    one = np.linalg.lstsq(features, np.ones(len(images)), rcond=None)[0]
    weights = 2 * points[:, None] * direction - points[:, None] ** 2 * one
    net.gates[0].gate.weight.set_data(mx.nd.array((weights / np.abs(weights).max())[:, :, None, None]))


def compare_routing(
    net: SlimmableNet,
    image_size: Optional[int] = None,
    repeats: int = 20,
    clock=time.perf_counter,
    form: str = "fused",
    batch: int = 32,
) -> RoutingTimes:
    """Time random images with mixed decisions, one by one and in a batch, through every way to run a new network.

    Its weights become random ones. Raises ValueError for a network without exactly one gate, and for an unknown form
    (see `FORMS` in routing.py).
    """
    size = image_size or (net.info or ModelInfo).input_size
    initialize_lively(net)
    scale = mx.nd.random.uniform(0.2, 2, shape=(batch, 1, 1, 1))
    images = mx.nd.random.normal(shape=(batch, net.in_channels, size, size)) * scale
    mix_decisions(net, images)
    ways, router = _ways(net, form, size), Router.of(net, form)
    decisions = router(images).decisions
    rows = _timed(_of_one_image(ways, router, images, decisions), repeats, clock)
    cost = float(np.mean([ways[f"static, width {width}"].madds for width in decisions]))
    widest = dict.fromkeys(f"static, width {width}" for width in (router.widths[-1], net.num_widths - 1))
    compared = {name: ways[name] for name in (*widest, "masked", BASELINE)}
    compared["routed"] = _Way(lambda x: router(x).logits, cost)
    rows += _timed(_of_all_images(compared, images), max(1, repeats // 4), clock)
    widths, numbers = np.unique(decisions, return_counts=True)
    return RoutingTimes(rows, dict(zip(widths.tolist(), numbers.tolist())))


def _ways(net: SlimmableNet, form: str, size: int) -> Dict[str, _Way]:
    """The network without routing: masked, static at every candidate's width, the widest and the largest; the baseline.

    Multiply-adds of the masked network are those of its widest candidate, without the gate's.
    """
    first, number = net.gating.first_candidate, net.gating.num_candidates
    ways = {
        f"static, width {width}": _Way(prepare(static_subnet(net, width), form), count(net.subnet(width), size).madds)
        for width in sorted({*range(first, first + number), net.num_widths - 1})
    }
    ways["static, largest"] = _Way(prepare(static_subnet(net, "largest"), form), count(net, size).madds)
    net.hybridize(static_alloc=True, static_shape=True)
    ways["masked"] = _Way(lambda x: net.dynamic(x).logits, ways[f"static, width {first + number - 1}"].madds)
    ways[BASELINE] = _baseline(form, size)
    return ways


def _of_one_image(ways: Dict[str, _Way], router: Router, images, decisions) -> List[_Case]:
    """Every way on one image, and routing to every width that occurs, on the first image that takes it."""
    cases = [_case(name, "1", way, images[:1]) for name, way in ways.items()]
    for width, place in zip(*np.unique(decisions, return_index=True)):
        routed = _Way(lambda x: router(x).logits, ways[f"static, width {width}"].madds)
        cases.append(_case(f"routed to width {width}", "1", routed, images[place : place + 1]))
    return cases


def _of_all_images(ways: Dict[str, _Way], images) -> List[_Case]:
    """Every way on all images, one by one and at once; the masked one at once alone."""
    number, cases = len(images), []
    singles = [images[i : i + 1] for i in range(number)]
    for name, way in ways.items():
        cases.append(_case(name, f"1 x {number}", way, images))
        if name != "masked":
            each = functools.partial(_run_each, way.run, singles)
            cases.append(_Case(name, f"{number} x 1", each, way.madds))
    return cases


def _case(name: str, kind: str, way: _Way, x: mx.nd.NDArray) -> _Case:
    return _Case(name, kind, lambda: way.run(x).wait_to_read(), way.madds)


def _run_each(run: Callable, images: List[mx.nd.NDArray]) -> None:
    for image in images:
        run(image).wait_to_read()


def _timed(cases: List[_Case], repeats: int, clock) -> List[RoutingRow]:
    times = time_interleaved({case[:2]: case.call for case in cases}, repeats, clock)
    return [RoutingRow(*case[:2], *times[case[:2]], case.madds) for case in cases]


def _baseline(form: str, size: int) -> _Way:
    net = get_model(BASELINE)
    initialize_lively(net)
    arrays = {param.name: param.data() for param in net.collect_params().values()}
    return _Way(prepare(static_block(static_graph(inference_graph(net), arrays)), form), count(net, size).madds)


def routing_table(times: RoutingTimes) -> str:
    """The rows as a Markdown table, then the comparisons that matter."""
    lines = ["| network | images | minimum, ms | median, ms | MAdds, M |", "|---|---|---|---|---|"]
    for row in times.rows:
        lines.append(f"| {row.network} | {row.images} | {row.minimum:.2f} | {row.median:.2f} | {row.madds / 1e6:.0f} |")
    shares = ", ".join(f"width {width}: {number}" for width, number in times.histogram.items())
    return "\n".join([*lines, "", f"decisions: {shares}", *_comparisons(times.rows)])


def _comparisons(rows: List[RoutingRow]) -> List[str]:
    of = {(row.network, row.images): row for row in rows}
    baseline, lines = of[BASELINE, "1"], []
    for row in rows:
        if row.network.startswith("routed to "):
            ratio = row.minimum / of[row.network.replace("routed to", "static,"), "1"].minimum
            faster = baseline.minimum / row.minimum
            lines.append(f"{row.network}: {ratio:.3f} of the static network's time, {faster:.2f} x {BASELINE}'s speed")
    for row in rows:
        if row.images != "1" and row.network.startswith("static, width"):
            routed = of["routed", row.images]
            faster, fewer = row.minimum / routed.minimum, row.madds / routed.madds
            lines.append(
                f"routed, {row.images}: {faster:.2f} times as fast as {row.network}, of {fewer:.2f} times fewer MAdds "
                f"({faster / fewer:.2f})"
            )
    return lines
