"""The command `python -m gluon_effnets tvm`: an exported ONNX file compiled and tuned with Apache TVM."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable

import numpy as np

__all__ = ["add_tvm"]


def add_tvm(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; `command(name, function, help)` makes a parser that calls `function(args)`."""
    added = command("tvm", _tvm, "an ONNX export to a library for TVM on this processor, loaded again and compared")
    added.add_argument("exported", metavar="EXPORTED.json", help="written by export --format onnx --batch N")
    added.add_argument("--library", metavar="FILE.so", help="default: EXPORTED.so")
    added.add_argument("--trials", type=int, default=0, metavar="N",
                       help="schedules to measure before (default: 0, those by rule)")  # fmt: skip
    added.add_argument("--database", metavar="DIR", help="keeps what the trials find; they go on from there")
    added.add_argument("--threads", type=int, default=1, metavar="N",
                       help="that the library will run on (default: 1): parallel loops cost, too")  # fmt: skip
    added.add_argument("--tvm-python", default=sys.executable, metavar="PATH",
                       help="the Python that has TVM (default: this one)")  # fmt: skip


def _tvm(args) -> int:
    from ..deploy import tvm_files

    # A process of its own: TVM in another environment, and its threads apart from MXNet's.
    with tempfile.TemporaryDirectory() as folder:
        path, expected = _question_and_answer(Path(args.exported), Path(folder) / "expected.npz")
        library = Path(args.library) if args.library else Path(args.exported).with_suffix(".so")
        arguments = [str(path), str(library), "--trials", str(args.trials), "--expected", str(expected)]
        arguments += ["--threads", str(args.threads)]
        if args.database:
            arguments += ["--database", args.database]
        try:
            done = subprocess.run([args.tvm_python, tvm_files.__file__, *arguments], stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise ValueError(f"--tvm-python {args.tvm_python} cannot be started: {error.strerror}") from None
    if done.returncode < 0:
        raise ValueError(
            f"TVM's process was ended by signal {-done.returncode}; what its trials found is kept.\n"
            "If this comes again, compare the versions of its packages with dev/tvm-requirements.txt"
        )
    if done.returncode:
        return done.returncode
    print(_summary(tvm_files.Compiled(**json.loads(done.stdout.splitlines()[-1]))))
    return 0


def _question_and_answer(exported: Path, out: Path):
    """The ONNX file of an export; random input and what ONNX Runtime makes of it, in the .npz file `out`."""
    from ..deploy.exported import Description
    from ..deploy.onnx_files import onnx_runner

    about = Description.read(exported)
    if about.format != "onnx" or about.input_shape[0] is None or about.int8 is not None:
        raise ValueError(
            f"TVM compiles float ONNX files for a fixed number of images; {exported} describes another export.\n"
            "Make one with: export NAME WEIGHTS OUT --format onnx --batch 1"
        )
    path = exported.parent / about.files[0]
    if not path.is_file():
        raise FileNotFoundError(f"the exported network lacks {path}")
    data = np.random.RandomState(0).standard_normal(about.input_shape).astype(np.float32)
    np.savez(str(out), data=data, logits=onnx_runner(path)(data))
    return path, out


def _summary(made) -> str:
    estimate = "" if made.estimate_ms is None else f"; their best times add up to {made.estimate_ms:.2f} ms, one thread"
    return (
        f"{made.library}\n"
        f"TVM {made.tvm} for {made.processor}: {made.tuned} of {made.operators} operators measured, "
        f"{made.new_trials} trials now, {made.trials} in all{estimate}\n"
        f"loaded again: largest difference from ONNX Runtime {made.difference:.1e} of the logits' standard deviation"
    )
