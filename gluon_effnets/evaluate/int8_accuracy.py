"""What 8 bits cost a trained network: accuracy and agreement with float32, in several runtimes."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon.block import Block

from .._requirements import optional_import
from ..deploy.compare import relative_difference
from ..deploy.graph.inference import inference_copy, network_graph
from ..deploy.to_mxnet.files import write_symbol_files
from ..deploy.to_mxnet.int8 import GRANULARITIES, quantize
from ..deploy.to_onnx.files import onnx_runner, write_onnx_file
from ..deploy.to_onnx.int8 import quantize_onnx
from ..models import ClassificationNet
from ..tables import Table
from ..timing import time_interleaved
from .int8_processes import Int8Worker

__all__ = ["INT8_RUNTIMES", "QuantizedRow", "compare_quantized", "installed_runtimes", "int8_table", "quantized_table"]

log = logging.getLogger(__name__)

# Those that stand behind the first two run in a process, perhaps of another interpreter: the file of `export --int8`,
# or what NNCF makes of the file in float32.
INT8_RUNTIMES = ("mxnet", "onnxruntime", "openvino", "onnxruntime-nncf", "openvino-nncf")

_REPEATS = 30

Batches = Iterable[Tuple[mx.nd.NDArray, mx.nd.NDArray]]


class QuantizedRow(NamedTuple):
    """One network in one runtime and granularity of its weights; shares of the evaluated images.

    `agreement`: of the largest logit with that in float32. `difference`: of the logits from those in float32, root mean
    square, relative to their standard deviation. `size`, `float_size`: of the runtime's files, in bytes.
    `milliseconds`, `float_milliseconds`: of one image in that runtime, the least of interleaved calls.
    """

    name: str
    granularity: str
    float_top1: float
    top1: float
    agreement: float
    difference: float
    runtime: str
    size: int
    float_size: int
    milliseconds: float
    float_milliseconds: float


def installed_runtimes() -> Tuple[str, ...]:
    """The first two of `INT8_RUNTIMES`, if they can quantize here; a warning says what the second needs."""
    try:
        optional_import("onnxruntime.quantization", "onnx", "8 bits in ONNX Runtime")
    except ImportError as error:
        log.warning("%s", error)
        return INT8_RUNTIMES[:1]
    return INT8_RUNTIMES[:2]


def compare_quantized(
    nets: Dict[str, ClassificationNet],
    calibration: Sequence[mx.nd.NDArray],
    evaluation: Batches,
    calibration_mode: str = "naive",
    runtimes: Sequence[str] = ("mxnet",),
    python: Optional[str] = None,
) -> List[QuantizedRow]:
    """Quantize every network, for MXNet in both granularities, and compare with float32 on labelled batches.

    `evaluation`: pairs (images, class numbers), gone through once for each row. `calibration_mode` is MXNet's alone.
    `runtimes`: some of `INT8_RUNTIMES`. In ONNX Runtime all layers are in 8 bits. `python`: the interpreter that has
    OpenVINO and NNCF; None: this one. Raises what `quantize` raises, ImportError for a runtime that is not installed.
    """
    batches = [(data.asnumpy(), label.asnumpy().astype(int)) for data, label in evaluation]
    labels = np.concatenate([label for _, label in batches])
    rows = []
    for name, net in nets.items():
        exact = _logits(inference_copy(net))
        expected = np.concatenate([exact(data) for data, _ in batches])
        for runtime in runtimes:
            forms = _FORMS.get(runtime) or partial(_forms_elsewhere, runtime=runtime, python=python)
            for form in forms(net, calibration, calibration_mode):
                seen = np.concatenate([form.logits(data) for data, _ in batches])
                found, exactly = seen.argmax(axis=1), expected.argmax(axis=1)
                milliseconds, float_milliseconds = form.times(batches[0][0][:1])
                row = QuantizedRow(
                    name,
                    form.granularity,
                    float_top1=float((exactly == labels).mean()),
                    top1=float((found == labels).mean()),
                    agreement=float((found == exactly).mean()),
                    difference=relative_difference(seen, expected),
                    runtime=runtime,
                    size=form.size,
                    float_size=form.float_size,
                    milliseconds=milliseconds,
                    float_milliseconds=float_milliseconds,
                )
                rows.append(row)
    return rows


class _Form(NamedTuple):
    """A network in 8 bits. `times`: of an image, in 8 bits and in float32 in the same runtime, in milliseconds."""

    granularity: str
    logits: Callable[[np.ndarray], np.ndarray]
    times: Callable[[np.ndarray], Tuple[float, float]]
    size: int
    float_size: int


def _times_here(logits: Callable, float_logits: Callable) -> Callable[[np.ndarray], Tuple[float, float]]:
    def times(image: np.ndarray) -> Tuple[float, float]:
        found = time_interleaved({"int8": partial(logits, image), "float": partial(float_logits, image)}, _REPEATS)
        return found["int8"].minimum, found["float"].minimum

    return times


def _logits(block: Block) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: block(mx.nd.array(x)).asnumpy()


def _size(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _mxnet_forms(net, calibration: Sequence[mx.nd.NDArray], mode: str) -> Iterator[_Form]:
    for granularity in GRANULARITIES:
        blocks = inference_copy(net), quantize(net, calibration, granularity, mode)
        with tempfile.TemporaryDirectory() as folder:
            sizes = []
            for block in blocks:
                sizes.append(_size(write_symbol_files(*network_graph(block), Path(folder) / "net")))
        for block in blocks:
            block.hybridize(static_alloc=True, static_shape=True)
        exact, rounded = map(_logits, blocks)
        yield _Form(granularity, rounded, _times_here(rounded, exact), sizes[1], sizes[0])


def _onnx_forms(net, calibration: Sequence[mx.nd.NDArray], mode: str) -> Iterator[_Form]:
    images = [batch.asnumpy() for batch in calibration]
    with tempfile.TemporaryDirectory() as folder:
        exact = write_onnx_file(*network_graph(net), Path(folder) / "net", images[0].shape[1:])
        path = quantize_onnx(exact, Path(folder) / "int8.onnx", images)
        # One range for all weights of a convolution ruins depthwise ones, and is no faster here.
        run = onnx_runner(path)
        yield _Form("channel-wise", run, _times_here(run, onnx_runner(exact)), _size([path]), _size([exact]))


def _forms_elsewhere(
    net, calibration: Sequence[mx.nd.NDArray], mode: str, runtime: str, python: Optional[str]
) -> Iterator[_Form]:
    images = np.concatenate([batch.asnumpy() for batch in calibration])
    name, _, recipe = runtime.partition("-")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        exact, path = write_onnx_file(*network_graph(net), place / "net", images.shape[1:]), place / "int8.onnx"
        if recipe:
            with contextlib.closing(Int8Worker("nncf", python, place)) as worker:
                worker.ask("quantize", images, file=str(exact), out=str(path))
        else:
            quantize_onnx(exact, path, [images])
        with contextlib.closing(Int8Worker(name, python, place)) as worker:
            worker.ask("open", files={"int8": str(path), "float": str(exact)})

            def times(image: np.ndarray) -> Tuple[float, float]:
                found = worker.ask("time", image, repeats=_REPEATS)
                return found["int8"], found["float"]

            yield _Form("channel-wise", worker.logits, times, _size([path]), _size([exact]))


_FORMS = {"mxnet": _mxnet_forms, "onnxruntime": _onnx_forms}


def quantized_table(rows: List[QuantizedRow]) -> str:
    """The rows as a Markdown table."""
    return int8_table(rows).markdown()


def int8_table(rows: List[QuantizedRow]) -> Table:
    """The rows as they are read: shares in percent, sizes in megabytes, times in milliseconds for one image."""
    shares = [(title, ".2%") for title in ("top-1 float32", "top-1 8 bits", "same class")]
    columns = ["model", "runtime", "weights", *shares, ("difference of logits", ".3f"), "MB (float)", "ms (float)"]
    lines = []
    for row in rows:
        figures = (row.float_top1, row.top1, row.agreement, row.difference)
        sizes = f"{row.size / 1e6:.2f} ({row.float_size / 1e6:.2f})"
        times = f"{row.milliseconds:.2f} ({row.float_milliseconds:.2f})"
        lines.append((row.name, row.runtime, row.granularity, *figures, sizes, times))
    return Table(columns, lines)
