"""Condensed CondenseNets in ONNX Runtime and OpenVINO, beside the same network written in PyTorch."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..deploy.aligned.select import aligned
from ..deploy.graph.inference import network_graph
from ..deploy.to_onnx.files import write_onnx_file
from ..models import get_model, model_info
from ..models.condense import condense
from ..models.condensenet import CondenseNet
from ..nn import DenseLayer, HardSwish, SqueezeExcite
from ..nn.init import initialize_like_trained
from ..tables import Table
from ..timing import Speedup, speedup

__all__ = ["RuntimeRow", "compare_runtimes", "runtimes_table"]

WORKER = Path(__file__).with_name("condensenet_worker.py")


class RuntimeRow(NamedTuple):
    """Milliseconds for a batch.

    over_plain : how many times as fast as the plain export in the same runtime it is. difference : of the logits from
    the first row's, in their standard deviations.
    """

    model: str
    file: str
    runtime: str
    minimum: float
    median: float
    over_plain: Speedup
    difference: float


def compare_runtimes(
    name: str,
    torch_python: str,
    *,
    image_size: Optional[int] = None,
    batch: int = 1,
    threads: int = 1,
    repeats: int = 40,
    clock: str = "perf_counter",
) -> Tuple[List[RuntimeRow], Dict[str, str]]:
    """Time the aligned graphs of a condensed network and its plain form in PyTorch, in every runtime, interleaved.

    Returns the rows and the versions of the runtimes.

    Parameters
    ----------
    torch_python : the Python that exports the plain form and runs all files: it needs torch, onnxscript, and
        onnxruntime or openvino.
    clock : of `time`: 'perf_counter', or 'process_time' for the processor's time.

    Raises ValueError for a network without masked layers or if the other Python fails.
    """
    net = get_model(name)
    initialize_like_trained(net)
    net = condense(net)
    size = image_size or model_info(name).input_size
    image = (net.in_channels, size, size)
    with tempfile.TemporaryDirectory() as folder:
        layers, arrays = plain_layers(net)
        np.savez(Path(folder) / "arrays.npz", **arrays)
        files = {
            f"aligned, for {format}": str(
                write_onnx_file(*network_graph(aligned(net, format=format)), Path(folder) / format, image, batch)
            )
            for format in ("onnx", "openvino")
        }
        job: Dict[str, Any] = {"layers": layers, "arrays": f"{folder}/arrays.npz", "files": files, "image": image}
        job.update(threads=threads, batch=batch)
        found = _run(torch_python, {**job, "repeats": repeats, "clock": clock})
    times = {(label, runtime): values for label, runtime, values, _ in found["rows"]}
    rows = []
    for label, runtime, values, difference in found["rows"]:
        over_plain = speedup(values, times[found["rows"][0][0], runtime])
        summary = min(values), float(np.median(values)), over_plain
        rows.append(RuntimeRow(name, label, runtime, *summary, difference))
    return rows, found["versions"]


def plain_layers(net: CondenseNet) -> Tuple[List[Tuple[str, Dict[str, Any]]], Dict[str, np.ndarray]]:
    """A condensed network as layers with settings, and their arrays under <number of the layer>.<name>."""
    *stages, head = net.features._children.values()
    layers: List[Tuple[str, Dict[str, Any]]] = []
    arrays: Dict[str, np.ndarray] = {}

    def add(kind: str, settings: Dict[str, Any], values: Dict[str, np.ndarray]) -> None:
        arrays.update((f"{len(layers)}.{name}", value) for name, value in values.items())
        layers.append((kind, settings))

    for block in (block for stage in stages for block in stage._children.values()):
        if isinstance(block, DenseLayer):
            add("layer", *_dense_layer(block))
        elif hasattr(block, "weight"):
            add("stem", {"stride": block._kwargs["stride"][0]}, {"weight": block.weight.data().asnumpy()})
        else:
            add("pool", {}, {})
    settings, values = _norm("norm", head[0])
    if net.plan.last_se:
        values.update(_gate(head[3]))
    dense = {"hidden": head[len(head) - 2], "output": net.output} if net.plan.head_hidden else {"output": net.output}
    for name, layer in dense.items():
        values.update({name: layer.weight.data().asnumpy(), f"{name}_bias": layer.bias.data().asnumpy()})
    add("head", settings, values)
    return layers, arrays


def _dense_layer(layer: DenseLayer) -> Tuple[Dict[str, Any], Dict[str, np.ndarray]]:
    reduce, update = layer.reduce, layer.update
    settings: Dict[str, Any] = {"hard_swish": isinstance(layer.act, HardSwish)}
    settings.update(groups=reduce.conv._kwargs["num_group"], conv_groups=layer.conv._kwargs["num_group"])
    values = {"index": reduce.index.data().asnumpy().astype(np.int64)}
    values.update(reduce=reduce.conv.weight.data().asnumpy(), conv=layer.conv.weight.data().asnumpy())
    norms = {"select": reduce.bn, "norm": layer.bn}
    if layer.se is not None:
        values.update(_gate(layer.se))
    if update is not None:
        norms["update_norm"], settings["update_groups"] = update.bn, update.conv._kwargs["num_group"]
        values.update(update=update.conv.weight.data().asnumpy(), target=update.as_matrix().argmax(axis=0))
    for name, bn in norms.items():
        more, arrays = _norm(name, bn)
        settings.update(more)
        values.update(arrays)
    return settings, values


def _gate(se: SqueezeExcite) -> Dict[str, np.ndarray]:
    return {f"se_{name}": getattr(se, name).weight.data().asnumpy() for name in ("reduce", "expand")}


def _norm(name: str, bn) -> Tuple[Dict[str, float], Dict[str, np.ndarray]]:
    parts = {"gamma": bn.gamma, "beta": bn.beta, "mean": bn.running_mean, "variance": bn.running_var}
    values = {f"{name}_{part}": param.data().asnumpy() for part, param in parts.items()}
    if bn._kwargs["fix_gamma"]:  # then MXNet counts gamma as 1, whatever is stored
        values[f"{name}_gamma"] = np.ones_like(values[f"{name}_gamma"])
    return {f"{name}_eps": bn._kwargs["eps"]}, values


def _run(python: str, job: Dict) -> Dict:
    try:
        done = subprocess.run([python, str(WORKER), json.dumps(job)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"{python} cannot be started: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ValueError(f"{python} failed: {said[:300]}\nIt needs torch, onnxscript, and onnxruntime or openvino")
    return json.loads(done.stdout.splitlines()[-1])


def runtimes_table(rows: Sequence[RuntimeRow]) -> Table:
    """The rows as a table."""
    columns = ["model", "file", "runtime", ("minimum, ms", ".2f"), ("median, ms", ".2f"), "times as fast as plain"]
    plain = rows[0].file if rows else ""
    lines = [(*row[:5], None if row.file == plain else str(row.over_plain), row.difference) for row in rows]
    return Table([*columns, ("difference", ".0e")], lines)
