"""Condensed CondenseNets in ONNX Runtime and OpenVINO, beside the same network written in PyTorch."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..deploy.aligned.select import aligned
from ..deploy.graph.inference import network_graph
from ..deploy.to_onnx.files import write_onnx_file
from ..models import get_model, model_info
from ..models.condense import condense
from ..nn.init import initialize_like_trained
from ..tables import Table

__all__ = ["RuntimeRow", "compare_runtimes", "runtimes_table"]

WORKER = Path(__file__).with_name("condensenet_worker.py")


class RuntimeRow(NamedTuple):
    """Milliseconds for a batch.

    ratio : the median of the plain export's time in the same runtime over this one, round by round. difference : of
    the logits from the first row's, in their standard deviations.
    """

    model: str
    file: str
    runtime: str
    minimum: float
    median: float
    ratio: float
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
        onnxruntime or openvino. This one needs torch, too.
    clock : of `time`: 'perf_counter', or 'process_time' for the processor's time.

    Raises ImportError without PyTorch, ValueError for a network without masked layers or if the other Python fails.
    """
    from .condensenet_torch import save_program

    net = get_model(name)
    initialize_like_trained(net)
    net = condense(net)
    size = image_size or model_info(name).input_size
    image = (net.in_channels, size, size)
    with tempfile.TemporaryDirectory() as folder:
        program = save_program(net, mx.nd.zeros((batch, *image)).asnumpy(), Path(folder) / "plain.pt2")
        files = {
            f"aligned, for {format}": str(
                write_onnx_file(*network_graph(aligned(net, format=format)), Path(folder) / format, image, batch)
            )
            for format in ("onnx", "openvino")
        }
        job = {"program": str(program), "files": files, "threads": threads, "batch": batch, "image": image}
        found = _run(torch_python, {**job, "repeats": repeats, "clock": clock})
    times = {(label, runtime): values for label, runtime, values, _ in found["rows"]}
    rows = []
    for label, runtime, values, difference in found["rows"]:
        ratios = np.divide(times[found["rows"][0][0], runtime], values)
        summary = min(values), float(np.median(values)), float(np.median(ratios))
        rows.append(RuntimeRow(name, label, runtime, *summary, difference))
    return rows, found["versions"]


def _run(python: str, job: Dict) -> Dict:
    try:
        done = subprocess.run([python, str(WORKER), json.dumps(job)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"{python} cannot be started: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ValueError(f"{python} failed: {said[:300]}\nIt needs torch, onnxscript, and onnxruntime or openvino")
    return json.loads(done.stdout.splitlines()[-1])


def runtimes_table(rows: Sequence[RuntimeRow]) -> str:
    """The rows as a Markdown table."""
    columns = ["model", "file", "runtime", ("minimum, ms", ".2f"), ("median, ms", ".2f"), ("faster than plain", ".2f")]
    return Table([*columns, ("difference", ".0e")], rows).markdown()
