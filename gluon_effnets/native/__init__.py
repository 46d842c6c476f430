"""Operators in C++ for a CPU: compiled once for a processor, used by hybridized networks and exports where they are.

They are a matter of speed alone. Without them networks train and run with MXNet's own operators, to the same numbers up
to rounding. Exported files never contain them: a graph is rewritten for them after it was loaded
(`gluon_effnets/deploy/compiled/`).
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import List, Optional

from .._mxnet import mx
from ..files.write import CannotWrite, make_folder, replacing

__all__ = ["build", "library", "load", "remedy", "switched_off"]

SWITCH = "GLUON_EFFNETS_NATIVE"
FOLDER = Path(__file__).parent
# `kernels.cc` is for training, `inference/` for whole networks, `messages.cc` for both.
SOURCES = [FOLDER / "kernels.cc", FOLDER / "messages.cc", *sorted((FOLDER / "inference").glob("*.cc"))]
HEADERS = sorted((FOLDER / "inference").glob("*.h"))
MXNET = Path(mx.__file__).parent

# Trapping would keep loops with comparisons and roundings from becoming vector instructions. None of these flags lets
# the compiler assume that there are no infinities and no NaNs.
FLAGS = ["-shared", "-fPIC", "-std=c++14", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp"]
# Horovod makes what MXNet contains visible to all: without this the library would take older forms of the standard
# library's templates from there, and end with an error of arithmetic.
FLAGS += ["-Wl,-Bsymbolic"] if sys.platform == "linux" else []
# Functions of MXNet's lib_api.cc in whose place are those of messages.cc.
FLAGS += ["-D_msgSize=replaced_msgSize", "-D_msgGet=replaced_msgGet"]
FLAGS += ["-march=native", "-mprefer-vector-width=512"] if platform.machine() in ("x86_64", "AMD64") else []


def switched_off() -> bool:
    """Whether the environment says GLUON_EFFNETS_NATIVE=0."""
    return os.environ.get(SWITCH) == "0"


def remedy() -> str:
    """What gives this environment the operators, where `load` says that it has them not."""
    return f"unset {SWITCH}" if switched_off() else "python -m gluon_effnets native compiles them"


def library() -> Path:
    """Where the compiled operators of this environment, MXNet, source and processor are, or would be."""
    parts = [mx.__version__, " ".join(FLAGS), _processor()]
    content = b"".join(path.read_bytes() for path in (*SOURCES, *HEADERS))
    key = hashlib.sha256("\n".join(parts).encode() + content).hexdigest()[:16]
    return Path(sysconfig.get_path("platlib")) / "gluon_effnets_native" / f"kernels-{key}.so"


def _processor() -> str:
    """What decides the instructions that -march=native chooses."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    kinds = ("model name", "flags", "Features", "CPU part")
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(kinds)}))


@functools.lru_cache(maxsize=None)
def load() -> bool:
    """Give MXNet the operators if they are compiled and not switched off; whether it has them then.

    Warns if the file is not what it should be.
    """
    path = library()
    if switched_off() or not path.is_file():
        return False
    try:
        mx.library.load(str(path), verbose=False)
    except mx.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        hint = "python -m gluon_effnets native --force compiles them again"
        warnings.warn(f"{path} cannot be loaded, so MXNet's own operators are used: {reason}; {hint}", stacklevel=2)
        return False
    return True


def build(compiler: Optional[str] = None) -> Path:
    """Compile the operators for this processor, try them, and return their path.

    `compiler` is a C++ compiler with OpenMP (default: the environment's CXX, else g++ or clang++). The file appears
    only if a process that loads it gets right results from it.

    Raises ValueError without a compiler, if it fails, or if the results are wrong, and PermissionError where the
    environment cannot be written; the text says what to do.
    """
    path = library()
    compiler = _compiler(compiler)
    try:
        make_folder(path.parent)
        with replacing(path) as new:
            source = [*map(str, SOURCES), str(MXNET / "src" / "lib_api.cc"), f"-I{MXNET / 'include'}"]
            _run([compiler, *FLAGS, *source, "-o", str(new)], f"{compiler} could not compile the operators")
            check = [sys.executable, "-W", "ignore", str(FOLDER / "check.py"), str(new)]
            _run(check, "the compiled operators do not work here")
    except CannotWrite as error:
        reason = f"{path.parent} cannot be written ({error.strerror})"
        raise PermissionError(f"{reason}: use a Python environment of your own") from None
    load.cache_clear()
    return path


def _compiler(name: Optional[str]) -> str:
    wishes = [name] if name else [os.environ.get("CXX") or "g++", "clang++", "c++"]
    for wish in wishes:
        if shutil.which(wish):
            return wish
    raise ValueError(
        f"no C++ compiler: {' and '.join(wishes)} cannot be found. Install one (Debian: apt install g++) or name it\n"
        "in the environment as CXX. All works without, with MXNet's own operators."
    )


def _run(command: List[str], failure: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-8:])
        raise ValueError(f"{failure} (exit code {done.returncode}):\n{last}")
