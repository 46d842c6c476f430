"""Exported graphs in MXNet: hybridized, with oneDNN's fusions, or with the compiled operator; for worker.py."""

from __future__ import annotations

import os
import platform
import warnings


def versions() -> dict:
    """Import MXNet; the versions of what the times depend on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mxnet
    import numpy

    return {"mxnet": mxnet.__version__, "numpy": numpy.__version__, "python": platform.python_version()}


def build(job: dict, threads: int):
    """A call of the graph in the files job['files'] on job['shape']; OMP_NUM_THREADS has set the threads."""
    import mxnet as mx
    import numpy as np

    symbol, params = job["files"]
    if job["form"] == "compiled" and not hasattr(mx.sym, "effnets_network"):  # it cannot be loaded again
        mx.library.load(job["library"], verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        block = mx.gluon.SymbolBlock.imports(symbol, ["data"], params)
    x = mx.nd.array(np.random.RandomState(0).standard_normal(job["shape"]))
    if job["form"] == "fused":
        block.optimize_for(x, backend="MKLDNN", static_alloc=True, static_shape=True)
    else:
        block.hybridize(static_alloc=True, static_shape=True)
    return lambda: block(x).wait_to_read(), sum(os.path.getsize(path) for path in job["files"])
