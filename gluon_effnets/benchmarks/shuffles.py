"""What channel shuffles cost in the runtimes at hand: networks with and without them, of equal multiply-adds."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import mxnet as mx

from ..complexity import count
from ..deploy.graph.inference import network_graph
from ..deploy.to_mxnet.variants import graph_blocks
from ..deploy.to_onnx.files import onnx_runner, write_onnx_file
from ..models import ClassificationNet, get_model
from ..nn.init import initialize_like_trained
from ..tables import Table
from ..timing import Speedup, speedup, time_interleaved
from .steps import inference_step

__all__ = ["CASES", "ShuffleRow", "compare_shuffles", "shuffles_table"]

PER_BLOCK = {"carry_idle": False}
# Network, its options without and with shuffles. IdleBlocks are carried through their runs, and in ONNX in whole blocks
# of channels, which shuffles prevent: 'idle' compares what one would deploy, 'idle_per_block' the shuffle alone.
CASES: Dict[str, Tuple[str, Dict[str, Any], Dict[str, Any]]] = {
    "idle": ("idle_mbv3_maximum", {}, {**PER_BLOCK, "shuffle": True}),
    "idle_per_block": ("idle_mbv3_maximum", PER_BLOCK, {**PER_BLOCK, "shuffle": True}),
    "shufflenet": ("shufflenet_v1_g3_x1_0", {"shuffle": "none"}, {}),
}


class ShuffleRow(NamedTuple):
    """Milliseconds for an image.

    Attributes:
        runtime: In which the networks ran.
        case: The key of `CASES`.
        network: Its name.
        without, shuffled: The minimum of all repetitions.
        median_without, median_shuffled: The median of them.
        madds: Of either network.
        over_without: How many times as fast the network with shuffles is.
    """

    runtime: str
    case: str
    network: str
    without: float
    shuffled: float
    median_without: float
    median_shuffled: float
    madds: int
    over_without: Speedup


def compare_shuffles(
    cases: Tuple[str, ...] = tuple(CASES),
    image_size: int = 224,
    repeats: int = 20,
    clock: Callable[[], float] = time.perf_counter,
) -> List[ShuffleRow]:
    """Time one image through networks without and with shuffles, in turn, in every runtime that is installed.

    Args:
        cases: Keys of `CASES`.
        image_size: Side of the image.
        repeats: Of every call.
        clock: For the times, in seconds.

    Returns:
        A row for each network in MXNet, hybridized and fused by oneDNN, and where they are installed in ONNX Runtime
        and in PyTorch (eager).

    Raises:
        ValueError: For an unknown case.
    """
    unknown = [case for case in cases if case not in CASES]
    if unknown or not cases:
        raise ValueError(f"{', '.join(unknown) or 'nothing'} to compare; choose from {', '.join(CASES)}")
    calls: Dict[Tuple[str, str, bool], Callable[[], object]] = {}
    madds: Dict[str, int] = {}
    for case in cases:
        name, *both = CASES[case]
        nets = [get_model(name, **options) for options in both]
        for kind, net in enumerate(nets):
            initialize_like_trained(net)
            for runtime, call in _calls(net, image_size).items():
                calls[runtime, case, bool(kind)] = call
        costs = {count(net, image_size).madds for net in nets}
        assert len(costs) == 1, "a shuffle multiplies nothing"
        madds[case] = costs.pop()
    times = time_interleaved(calls, repeats, clock)
    rows = []
    for runtime, case in dict.fromkeys(key[:2] for key in calls):
        without, shuffled = (times[runtime, case, kind] for kind in (False, True))
        numbers = (without.minimum, shuffled.minimum, without.median, shuffled.median)
        over = speedup(shuffled.samples, without.samples)
        rows.append(ShuffleRow(runtime, case, CASES[case][0], *numbers, madds[case], over))
    return rows


def _calls(net: ClassificationNet, size: int) -> Dict[str, Callable[[], object]]:
    """{runtime: call} of one image."""
    image = mx.nd.random.normal(shape=(1, net.in_channels, size, size))
    found: Dict[str, Callable[[], object]] = {
        f"MXNet, {kind}": inference_step(block, image) for kind, block in graph_blocks(net, image).items()
    }
    if _has("onnx", "onnxruntime"):
        with tempfile.TemporaryDirectory() as folder:
            path = write_onnx_file(*network_graph(net), Path(folder) / "net", image.shape[1:])
            run = onnx_runner(path)
        array = image.asnumpy()
        found["ONNX Runtime"] = lambda: run(array)
    if _has("torch"):
        found.update(_in_torch(net, image))
    return found


def _has(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) for package in packages)


def _in_torch(net: ClassificationNet, image: mx.nd.NDArray) -> Dict[str, Callable[[], object]]:
    import torch

    from .torch_reference import NoCounterpart, torch_like

    try:
        module = torch_like(net).eval()
    except NoCounterpart:
        return {}
    x = torch.from_numpy(image.asnumpy())

    def run() -> object:
        with torch.inference_mode():
            return module(x)

    return {"PyTorch": run}


def shuffles_table(rows: List[ShuffleRow]) -> Table:
    """The rows as a table, with the share that shuffles add to the minimum and to the median, and its certainty."""
    columns = ["runtime", "case", "network", ("without, ms", ".2f"), ("with shuffles, ms", ".2f")]
    more = [("more (minimum)", "+.1%"), ("more (median)", "+.1%"), "times as fast as without", ("MAdds, M", ".1f")]
    lines = [
        (
            *row[:5],
            row.shuffled / row.without - 1,
            row.median_shuffled / row.median_without - 1,
            str(row.over_without),
            row.madds / 1e6,
        )
        for row in rows
    ]
    return Table([*columns, *more], lines)
