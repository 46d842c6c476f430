"""Where the time of a network goes: every operator in ONNX Runtime and MXNet, beside a lower bound."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ..._requirements import optional_import
from ...deploy.aligned.select import aligned
from ...deploy.graph.inference import StaticGraph, network_graph, static_block
from ...deploy.graph.static import static_graph
from ...deploy.to_mxnet.files import write_symbol_files
from ...deploy.to_onnx.files import onnx_runner, write_onnx_file
from ...models import SlimmableNet, SubNet, get_model, list_models, model_info
from ...models.condense import condense
from ...nn import masked_layers
from ...nn.init import initialize_like_trained
from ...timing import time_interleaved
from .child import OPERATORS, RUN
from .lower_bound import (
    DEPTHWISE,
    ELEMENTWISE,
    FC,
    GROUPED,
    KINDS,
    LAYOUT,
    MOVED,
    OTHER,
    POINTWISE,
    POOLING,
    SPATIAL,
    Layer,
    Machine,
    lower_bounds,
    network_layers,
)

__all__ = ["PROFILED_RUNTIMES", "REPRESENTATIVES", "Event", "Profile", "Share", "Variant", "deployed", "profile"]

PROFILED_RUNTIMES = ("onnxruntime", "mxnet", "mxnet-fused")
# ONNX Runtime: what no operator took. MXNet: what its operators took besides oneDNN's primitives.
REST = "between operators"
REST_IN_MXNET = "not oneDNN"


class Variant(NamedTuple):
    """A registered network as it is deployed: condensed if it has masks, one `width` of a slimmable one, aligned."""

    name: str
    width: Optional[int] = None
    aligned: bool = False

    @property
    def label(self) -> str:
        width = "" if self.width is None else f" width {self.width}"
        return f"{self.name}{width}{' aligned' if self.aligned else ''}"


# The networks that stand for their families, as they are registered.
REPRESENTATIVES = tuple(
    Variant(name, *variant) for name in list_models() for variant in model_info(name).representative
)


class Event(NamedTuple):
    """One operator of one run."""

    name: str
    op: str
    kind: str
    side: int
    milliseconds: float


@dataclasses.dataclass
class Share:
    """What operators of one kind take together: as profiled, and at least."""

    operators: int = 0
    milliseconds: float = 0.0
    madds: int = 0
    lower_bound: float = 0.0


@dataclasses.dataclass
class Profile:
    """Milliseconds of one network in one runtime.

    `minimum` and `median` are of whole runs without profiling. `profiled` is the sum of each operator's shortest
    time of all profiled runs; its parts are `kinds`, `sides` (height of the output) and `events`. `operators`: by type,
    as the runtime calls them; in MXNet with the reorders inside them, of other runs. `fused`: what became part of
    convolutions.
    """

    name: str
    runtime: str
    shape: Tuple[int, ...]
    minimum: float
    median: float
    profiled: float
    lower_bound: float
    kinds: Dict[str, Share]
    sides: Dict[int, Share]
    operators: Dict[str, Share]
    events: List[Event]
    fused: Dict[str, int]

    @property
    def reorders(self) -> Share:
        """Changes between memory layouts."""
        return self.kinds.get(LAYOUT, Share())


def deployed(variant: Variant, runtime: str = PROFILED_RUNTIMES[0], **options: Any) -> HybridBlock:
    """A network with random weights, in the form in which a runtime has it; `options` are its constructor's.

    Raises ValueError for a network without widths or aligned form.
    """
    net = get_model(variant.name, **options)
    initialize_like_trained(net)
    if masked_layers(net):
        net = condense(net)
    if variant.width is not None:
        if not isinstance(net, SlimmableNet):
            raise ValueError(f"{variant.name} has no widths: leave the width out")
        net = net.subnet(variant.width)
    return aligned(net, format="onnx" if runtime == "onnxruntime" else "mxnet") if variant.aligned else net


def profile(
    net: HybridBlock,
    machine: Machine,
    runtime: str = PROFILED_RUNTIMES[0],
    image_size: int = 224,
    batch: int = 1,
    repeats: int = 20,
    name: str = "",
) -> Profile:
    """Profile one initialized network on the CPU; `machine` from `measure_machine`.

    Raises ValueError for an unknown runtime, ImportError without the packages of ONNX Runtime.
    """
    if runtime not in PROFILED_RUNTIMES:
        raise ValueError(f"unknown runtime {runtime!r}; choose one of {', '.join(PROFILED_RUNTIMES)}")
    shape = (batch, net.in_channels, image_size, image_size)
    graph = network_graph(net)
    if isinstance(net, SubNet):  # slices its parameters
        graph = static_graph(*graph)
    layers = network_layers(graph, shape)
    with tempfile.TemporaryDirectory() as folder:
        run = _in_onnx_runtime if runtime == "onnxruntime" else _in_mxnet
        latency, events, rest, operators, fused = run(graph, layers, shape, repeats, Path(folder), runtime)
    parts = [*events, rest]
    total = sum(event.milliseconds for event in parts)
    kinds, sides = _shares(parts, "kind"), _shares(parts, "side")
    bounds = lower_bounds(layers, machine)
    for layer, seconds in zip(layers, bounds):
        for share in (kinds.setdefault(layer.kind, Share()), sides.setdefault(layer.side, Share())):
            share.madds += layer.madds
            share.lower_bound += seconds * 1e3
    present = (kind for kind in KINDS if kind in kinds and (kinds[kind].operators or kinds[kind].lower_bound))
    ordered = {kind: kinds[kind] for kind in (*present, rest.kind)}
    widest_first = {side: sides[side] for side in sorted(sides, reverse=True)}
    return Profile(
        name,
        runtime,
        shape,
        latency.minimum,
        latency.median,
        total,
        sum(bounds) * 1e3,
        ordered,
        widest_first,
        operators,
        events,
        fused,
    )


def _shares(events: Sequence[Event], field: str) -> Dict[Any, Share]:
    shares: Dict[Any, Share] = collections.defaultdict(Share)
    for event in events:
        share = shares[getattr(event, field)]
        share.operators += bool(event.op)
        share.milliseconds += event.milliseconds
    return dict(shares)


def _fastest(runs: Sequence[List[Event]]) -> List[Event]:
    """One run out of many: every operator's shortest time. Other processes spoil single ones."""
    shortest: Dict[tuple, Event] = {}
    for events in runs:
        seen: Dict[tuple, int] = collections.Counter()
        for event in events:
            same = event._replace(milliseconds=0)
            key = (same, seen[same])
            seen[same] += 1
            shortest[key] = min(event, shortest.get(key, event), key=lambda one: one.milliseconds)
    return list(shortest.values())


def _in_onnx_runtime(graph, layers, shape, repeats, folder, runtime):
    ort = optional_import("onnxruntime", "onnx", "profile in ONNX Runtime")
    path = write_onnx_file(*graph, folder / "net", shape[1:], shape[0])
    x = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
    latency = time_interleaved({"": lambda call=onnx_runner(path): call(x)}, repeats)[""]
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    options.log_severity_level = 3
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "trace")
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(repeats + 1):
        session.run(None, {"data": x})
    trace = json.loads(Path(session.end_profiling()).read_text())
    totals, runs = zip(*_onnx_runs(trace, layers)[1:])
    events = _fastest(runs)
    rest = min(total - sum(event.milliseconds for event in run) for total, run in zip(totals, runs))
    fused = _fused_by_onnx_runtime(folder / "optimized.onnx")
    return latency, events, Event("", "", REST, 0, rest), _shares(events, "op"), fused


def _onnx_runs(trace: List[dict], layers: Sequence[Layer]) -> List[Tuple[float, List[Event]]]:
    """Milliseconds and operators of every run of a trace, in order."""
    of_name = {layer.name: layer for layer in layers}
    kernels = [row for row in trace if row["cat"] == "Node" and row["name"].endswith("_kernel_time")]
    runs = []
    for row in trace:
        if row["name"] == "model_run":
            inside = (k for k in kernels if row["ts"] <= k["ts"] < row["ts"] + row["dur"])
            runs.append((row["dur"] / 1e3, [_onnx_event(kernel, of_name) for kernel in inside]))
    return runs


def _onnx_event(row: dict, of_name: Dict[str, Layer]) -> Event:
    op = row["args"]["op_name"]
    name = re.sub(r"(/.*)?(_nchwc)?(_token_\d+)?$", "", row["name"][: -len("_kernel_time")])
    [output] = row["args"]["output_type_shape"][0].values()
    side = output[2] if len(output) == 4 else 1
    layer = of_name.get(name)
    if op.startswith("Reorder"):
        return Event(name, op, LAYOUT, side, row["dur"] / 1e3)
    while op in ("Conv", "FusedConv", "Gemm", "FusedGemm") and layer and not layer.madds:
        layer = of_name.get(layer.behind)  # named after the activation that it took in
    kind = layer.kind if layer else MOVED if op in ("Reshape", "Transpose", "Slice", "Split", "Concat") else OTHER
    return Event(name, op, kind, layer.side if layer else side, row["dur"] / 1e3)


def _fused_by_onnx_runtime(path: Path) -> Dict[str, int]:
    """How many convolutions of an optimized file took in which activation, and a sum."""
    onnx = optional_import("onnx", "onnx", "read optimized ONNX files")
    found: Dict[str, int] = collections.Counter()
    for node in onnx.load(str(path)).graph.node:
        if node.op_type in ("Conv", "FusedConv"):
            found.update(a.s.decode() for a in node.attribute if a.name == "activation" and a.s)
            found["sum"] += len(node.input) > 3 and bool(node.input[3])
    return {name: number for name, number in found.items() if number}


def _in_mxnet(graph: StaticGraph, layers, shape, repeats, folder, runtime):
    files = [str(path) for path in write_symbol_files(*graph, folder / "net")]
    block, x = static_block(graph), mx.nd.random.uniform(shape=shape)
    backend = "MKLDNN" if runtime == "mxnet-fused" else None
    block.hybridize(backend=backend, static_alloc=True, static_shape=True)
    latency = time_interleaved({"": lambda: block(x).wait_to_read()}, repeats)[""]
    arguments = [*files, runtime, str(repeats), *map(str, shape)]
    events = _fastest(_onednn_runs(_child("primitives", arguments, DNNL_VERBOSE="1"), layers))
    lines = _child("operators", arguments, MXNET_EXEC_BULK_EXEC_INFERENCE="0")
    runs = [json.loads(line[len(OPERATORS) :]) for line in lines if line.startswith(OPERATORS)]
    names = runs[-1].keys() - {"WaitForVar", "DeleteVariable"}
    operators = {
        name: Share(*min((run[name] for run in runs if name in run), key=lambda row: row[1])) for name in names
    }
    rest = sum(share.milliseconds for share in operators.values()) - sum(event.milliseconds for event in events)
    fused = collections.Counter(
        part for event in events if event.op == "convolution" for part in re.findall(r"eltwise_[a-z]+|sum", event.name)
    )
    return latency, events, Event("", "", REST_IN_MXNET, 0, rest), operators, dict(fused)


def _child(what: str, arguments: List[str], **settings: str) -> List[str]:
    """Lines that `profile_child` prints."""
    package = str(Path(__file__).resolve().parents[3])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, **settings}
    command = [sys.executable, "-m", f"{__package__}.child", what, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"MXNet failed in a process of its own:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()


def _onednn_runs(lines: List[str], layers: Sequence[Layer]) -> List[List[Event]]:
    """The primitives of every run that `profile_child` announced."""
    kinds = {layer.shape: layer.kind for layer in layers if layer.shape}
    runs: List[List[Event]] = []
    for line in lines:
        if line == RUN:
            runs.append([])
        elif line.startswith("dnnl_verbose,exec") and runs:
            runs[-1].append(_onednn_event(line.split(","), kinds))
    return runs


_PRIMITIVES = {"reorder": LAYOUT, "pooling_v2": POOLING, "pooling": POOLING, "inner_product": FC, "concat": MOVED,
               "eltwise": ELEMENTWISE, "sum": ELEMENTWISE, "binary": ELEMENTWISE, "batch_normalization": ELEMENTWISE,
               "shuffle": MOVED}  # fmt: skip


def _onednn_event(fields: List[str], kinds: Dict[Tuple[int, ...], str]) -> Event:
    """A line `dnnl_verbose,exec,cpu,primitive,implementation,kind,memory,attributes,auxiliary,sizes,milliseconds`."""
    op, implementation, attributes, sizes = fields[3], fields[4], fields[7], fields[-2]
    numbers = {key: int(value) for key, value in re.findall(r"([a-z]+)(\d+)", sizes)}
    plain = re.findall(r"\d+", sizes)  # of a reorder: 1x16x112x112
    side = numbers.get("oh", numbers.get("ih", int(plain[2]) if len(plain) == 4 and "ic" not in numbers else 1))
    groups, channels, out, kernel = (numbers.get(key, 1) for key in ("g", "ic", "oc", "kh"))
    kind = _PRIMITIVES.get(op, OTHER)
    if op == "convolution":
        kind = kinds.get((groups, channels, out, kernel, side)) or _convolution(groups, channels, kernel)
    elif kind == POOLING:
        kind = kinds.get((0, channels, channels, numbers["ih"], side), POOLING)
    return Event(f"{implementation} {attributes} {sizes}", op, kind, side, float(fields[-1]))


def _convolution(groups: int, channels: int, kernel: int) -> str:
    """The kind of a convolution that has the sizes of no layer."""
    if groups > 1:
        return DEPTHWISE if groups == channels else GROUPED
    return POINTWISE if kernel == 1 else SPATIAL
