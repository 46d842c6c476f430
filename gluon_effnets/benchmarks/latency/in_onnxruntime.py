"""ONNX files in ONNX Runtime; for worker.py."""

from __future__ import annotations

import os
import platform


def versions() -> dict:
    """Import ONNX Runtime; the versions of what the times depend on."""
    import numpy
    import onnxruntime

    return {
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def build(job: dict, threads: int):
    """A call of the ONNX file job['files'][0] on job['shape']."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    [path] = job["files"]
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = np.random.RandomState(0).standard_normal(job["shape"]).astype(np.float32)
    return lambda: session.run(None, {"data": x}), os.path.getsize(path)
