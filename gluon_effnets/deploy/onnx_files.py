"""ONNX files of inference graphs, and their functions in ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Dict, Optional, Tuple

import mxnet as mx
import numpy as np

from .. import __version__
from .._requirements import optional_import
from .graph_nodes import read_graph, simplify
from .onnx_operators import OnnxNodes

__all__ = ["OPSET", "onnx_runner", "write_onnx_file"]

OPSET = 13
# The version of the file format that came with the operators; newer ones ask for newer runtimes.
IR_VERSION = 7


def write_onnx_file(
    graph: mx.sym.Symbol,
    arrays: Dict[str, mx.nd.NDArray],
    prefix: Path,
    image: Tuple[int, int, int],
    batch: Optional[int] = None,
) -> Path:
    """Write <prefix>.onnx, checked: `data` (N, *image) -> `logits` (N, classes), for any N without `batch`.

    Convolutions have their BN folded in, all weights are constants, and dropout is gone. Raises ValueError naming the
    operator that ONNX cannot express, ImportError without the package onnx.
    """
    onnx = optional_import("onnx", "onnx", "export to ONNX")
    output = simplify(read_graph(graph, arrays, image, batch))
    made = OnnxNodes(output, "logits")
    helper, number = onnx.helper, "N" if batch is None else batch

    def tensor(name, *shape):
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [number, *shape])

    content = helper.make_graph(
        made.nodes, prefix.name, [tensor("data", *image)], [tensor("logits", *output.shape[1:])], made.initializers
    )
    producer = {"producer_name": "gluon_effnets", "producer_version": __version__}
    model = helper.make_model(content, opset_imports=[helper.make_opsetid("", OPSET)], **producer)
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    path = prefix.with_name(f"{prefix.name}.onnx")
    onnx.save(model, str(path))
    return path


def onnx_runner(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function (N, C, H, W) -> logits of an ONNX file, in ONNX Runtime on the CPU.

    It uses OMP_NUM_THREADS threads, or one for each core. Raises ValueError if the file cannot be loaded, ImportError
    without the package onnxruntime.
    """
    runtime = optional_import("onnxruntime", "onnx", "run ONNX files")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # its errors have no common class of their own
        raise ValueError(f"{path} is no ONNX file that ONNX Runtime can load, or it is cut short") from None
    if [given.name for given in session.get_inputs()] != ["data"]:
        raise ValueError(f"{path} is another network's file: its input is not named data")
    return lambda x: session.run(None, {"data": np.ascontiguousarray(x, np.float32)})[0]
