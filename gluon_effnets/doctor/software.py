"""What is installed: Python, MXNet and its libraries, the driver of GPUs, Horovod, and what is optional."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from typing import Any, Dict, Iterator, List, Tuple

from .._requirements import install_command
from .finding import ChildFailed, Finding, ask, fine, last_line, note, wrong

__all__ = ["gpus", "software"]

_PYTHONS = ((3, 8), (3, 11))
# The first driver that runs programs for CUDA 11.x (NVIDIA's table of minor version compatibility).
_DRIVER = (450, 80, 2)
# CUDA 11.2 knows processors up to compute capability 8.6; newer ones compile its kernels when they are first used.
_CAPABILITY = (8, 6)
_MXNET = """
import json, numpy
from gluon_effnets._mxnet import mx
features = [name for name, feature in mx.runtime.Features().items() if feature.enabled]
try:
    gpus = mx.context.num_gpus()
except mx.MXNetError as error:
    gpus = str(error).splitlines()[0]
print(json.dumps({"mxnet": mx.__version__, "numpy": numpy.__version__, "features": features, "gpus": gpus}))
"""
_HOROVOD = """
import json
from gluon_effnets._mxnet import mx
import horovod, horovod.mxnet as hvd
built = [name for name in ("gloo", "mpi", "nccl") if getattr(hvd, f"{name}_built")()]
print(json.dumps({"version": horovod.__version__, "built": built}))
"""
_NATIVE = """
import json
from gluon_effnets import native
print(json.dumps({"loaded": native.load(), "off": native.switched_off()}))
"""
_OPTIONAL = (
    ("onnxruntime", "onnx", "ONNX files and their comparison"),
    ("cv2", "opencv", "decoding of images"),
    ("sklearn", "train", "the embedded digits"),
    ("matplotlib", "train", "pictures of runs"),
)


def gpus() -> List[Dict[str, Any]]:
    """Return the GPUs that the driver shows: `name`, `driver` and `capability`; none without a driver.

    Raises:
        ChildFailed: nvidia-smi is there, but fails.
    """
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ChildFailed(f"gives no answer ({type(error).__name__})") from None
    if done.returncode:
        raise ChildFailed(f"fails: {last_line(done.stdout + done.stderr)}")
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 2]
    return [{"name": name, "driver": driver, "capability": capability} for name, driver, capability in rows]


def software() -> Iterator[Finding]:
    """Look at what is installed."""
    yield _python()
    try:
        shown = gpus()
    except ChildFailed as error:
        shown = []
        yield wrong(
            "GPU driver", f"nvidia-smi {error}", "install the driver of your GPU anew, or start the machine anew"
        )
    yield from _driver(shown)
    try:
        mxnet = ask(["-c", _MXNET])
    except ChildFailed as error:
        extra = "cu112" if shown else "cpu"
        yield wrong("MXNet", f"its import {error}", install_command(extra) + ' "numpy<1.24"')
        return
    yield from _mxnet(mxnet, shown)
    yield from _native(mxnet)
    yield from _horovod(mxnet)
    for module, extra, purpose in _OPTIONAL:
        if importlib.util.find_spec(module) is None:
            yield note(module, f"is not installed; it is needed for {purpose}", install_command(extra))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    first, last = _PYTHONS
    if first <= sys.version_info[:2] <= last:
        return fine("Python", version)
    return wrong("Python", f"{version}; MXNet 1.9.1 runs with 3.{first[1]} to 3.{last[1]}", f"use Python 3.{last[1]}")


def _numbers(version: str) -> Tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _driver(shown: List[Dict[str, Any]]) -> Iterator[Finding]:
    for gpu in shown[:1]:
        found = f"{len(shown)} x {gpu['name']}, driver {gpu['driver']}, compute capability {gpu['capability']}"
        if _numbers(gpu["driver"]) < _DRIVER:
            yield wrong("GPU driver", found, "CUDA 11.2 needs driver {}.{}.{:02} or newer".format(*_DRIVER))
        elif _numbers(gpu["capability"]) > _CAPABILITY:
            cure = "set CUDA_CACHE_MAXSIZE=4294967296 once, so that what is compiled at the first start is kept"
            yield note("GPU driver", f"{found}: newer than CUDA 11.2 knows", cure)
        else:
            yield fine("GPU driver", found)


def _mxnet(mxnet: Dict[str, Any], shown: List[Dict[str, Any]]) -> Iterator[Finding]:
    features = set(mxnet["features"])
    known = (("MKLDNN", "oneDNN"), ("OPENMP", "OpenMP"), ("OPENCV", "OpenCV"), ("CUDA", "CUDA"), ("CUDNN", "cuDNN"))
    found = f"{mxnet['mxnet']} with {', '.join(text for name, text in known if name in features)}"
    found += f"; NumPy {mxnet['numpy']}"
    if mxnet["mxnet"] != "1.9.1":
        yield wrong("MXNet", found, install_command("cu112" if shown else "cpu"))
    elif shown and "CUDA" not in features:
        yield wrong(
            "MXNet",
            f"{found}: it does not know GPUs, and there is one",
            f"{install_command('cu112')}  # in place of mxnet",
        )
    elif "CUDA" in features and not isinstance(mxnet["gpus"], int):
        yield wrong("MXNet", f"{found}: {mxnet['gpus']}", "nvidia-smi must show the GPU; compare driver and CUDA 11.2")
    elif "CUDA" in features and not mxnet["gpus"]:
        yield wrong("MXNet", f"{found}: it sees no GPU", "look at CUDA_VISIBLE_DEVICES and nvidia-smi")
    elif "CUDA" in features and "CUDNN" not in features:
        yield wrong("MXNet", found, "put cuDNN 8 for CUDA 11 on LD_LIBRARY_PATH")
    else:
        yield fine("MXNet", found)


def _native(mxnet: Dict[str, Any]) -> Iterator[Finding]:
    subject = "compiled operators"
    if "CUDA" in mxnet["features"]:
        return  # they are for CPUs
    try:
        native = ask(["-c", _NATIVE])
    except ChildFailed as error:
        yield wrong(subject, f"loading them {error}", "python -m gluon_effnets native --force")
        return
    if native["off"]:
        yield note(subject, "switched off by GLUON_EFFNETS_NATIVE=0", "unset GLUON_EFFNETS_NATIVE")
    elif native["loaded"]:
        yield fine(subject, "there, for training and inference on this processor")
    else:
        yield note(
            subject,
            "not there; training and exports for MXNet are slower on this processor",
            "python -m gluon_effnets native",
        )


def _horovod(mxnet: Dict[str, Any]) -> Iterator[Finding]:
    several = isinstance(mxnet["gpus"], int) and mxnet["gpus"] > 1
    if importlib.util.find_spec("horovod") is None:
        yield note("Horovod", "is not installed; it is needed for several workers", install_command("hvd"))
        return
    try:
        horovod = ask(["-c", _HOROVOD])
    except ChildFailed as error:
        yield wrong("Horovod", f"its import {error}", install_command("hvd"))
        return
    found = f"{horovod['version']} with {', '.join(horovod['built']) or 'nothing to talk by'}"
    if not {"gloo", "mpi"} & set(horovod["built"]):
        yield wrong("Horovod", found, install_command("hvd"))
    elif several and "nccl" not in horovod["built"]:
        yield wrong(
            "Horovod",
            f"{found}: gradients of GPUs would go through main memory",
            f"HOROVOD_GPU_OPERATIONS=NCCL {install_command('hvd')}",
        )
    else:
        yield fine("Horovod", found)
