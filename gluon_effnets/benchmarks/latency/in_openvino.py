"""ONNX files in OpenVINO, for latency and in float32; for worker.py."""

from __future__ import annotations

import os
import platform


def versions() -> dict:
    """Import OpenVINO; the versions of what the times depend on."""
    import numpy
    import openvino

    return {
        "openvino": openvino.__version__.partition("-")[0],
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def build(job: dict, threads: int):
    """A call of the ONNX file job['files'][0] on job['shape']."""
    import numpy as np
    import openvino

    [path] = job["files"]
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Processors with operations on bfloat16 would take these, with other answers, and other times.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    x = np.random.RandomState(0).standard_normal(job["shape"]).astype(np.float32)
    return lambda: request.infer([x], share_inputs=True), os.path.getsize(path)
