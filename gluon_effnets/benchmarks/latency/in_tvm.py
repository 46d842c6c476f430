"""ONNX files compiled with TVM, by the best schedules of a tuning database; for worker.py."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys


def versions() -> dict:
    """Import TVM; the versions of what the times depend on."""
    import numpy
    import tvm

    return {"tvm": tvm.__version__, "numpy": numpy.__version__, "python": platform.python_version()}


def build(job: dict, threads: int):
    """A call of the ONNX file job['files'][0] on job['shape'], compiled once with what the folder job['database'] has.

    TVM_NUM_THREADS has set the threads.
    """
    import numpy as np

    spec = importlib.util.spec_from_file_location("tvm_files", job["tvm_files"])
    assert spec and spec.loader, job["tvm_files"]
    sys.modules["tvm_files"] = tvm_files = importlib.util.module_from_spec(spec)  # its dataclasses look themselves up
    spec.loader.exec_module(tvm_files)
    [path] = job["files"]
    library = f"{path}.so"
    if not os.path.isfile(library):
        tvm_files.compile_onnx(path, library, job["database"])
    x = np.random.RandomState(0).standard_normal(job["shape"]).astype(np.float32)
    run = tvm_files.tvm_runner(library, trust=True)
    return lambda: run(x), os.path.getsize(library)
