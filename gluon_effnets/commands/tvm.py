"""The command `tvm`: an exported ONNX file compiled and tuned with Apache TVM."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from .command import Command

__all__ = ["COMMAND"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tvm`."""
    parser.add_argument("exported", metavar="EXPORTED.json", help="What export --format onnx --batch N wrote.")
    parser.add_argument(
        "--library", metavar="FILE.so", help="The library to write (default: EXPORTED.so); predict takes FILE.so.json."
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=0,
        metavar="N",
        help="Number of schedules to measure first (default: 0, schedules by rule).",
    )
    parser.add_argument(
        "--database", metavar="DIR", help="Keep what the trials find in this folder, and go on from there."
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="Threads that the library will run on (default: 1); parallel loops cost, too.",
    )
    parser.add_argument(
        "--tvm-python", default=sys.executable, metavar="PATH", help="The Python that has TVM (default: this one)."
    )


def run(args: argparse.Namespace) -> int:
    """Compile, and print the files and how they compare; return the exit code."""
    from ..deploy.to_tvm import compile as tvm_compiler
    from ..files.write import make_folder, move_together, scratch_beside

    exported = Path(args.exported)
    about = _compilable(exported)
    library = Path(args.library) if args.library else exported.with_suffix(".so")
    make_folder(library.parent)
    # A process of its own: TVM in another environment, and its threads apart from MXNet's.
    with scratch_beside(library) as folder:
        [[path]], expected, draft = about.files_in(exported.parent), folder / "expected.npz", folder / library.name
        _write_question_and_answer(path, about, expected)
        arguments = [str(path), str(draft), "--trials", str(args.trials), "--expected", str(expected)]
        arguments += ["--threads", str(args.threads)]
        if args.database:
            arguments += ["--database", args.database]
        try:
            done = subprocess.run(
                [args.tvm_python, tvm_compiler.__file__, *arguments], stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise ValueError(f"--tvm-python {args.tvm_python} cannot be started: {error.strerror}") from None
        if done.returncode < 0:
            raise ValueError(
                f"TVM's process was ended by signal {-done.returncode}; what its trials found is kept.\n"
                "If this comes again, compare the versions of its packages with dev/tvm-requirements.txt"
            )
        if done.returncode:
            return done.returncode
        made = tvm_compiler.Compiled(**json.loads(done.stdout.splitlines()[-1]))
        # The library's whole name: OUT.json describes the ONNX file.
        description = draft.with_name(f"{library.name}.json")
        _describe(about, made, draft, args.threads).save(description)
        library, description = move_together([draft, description], library.parent)
    print(f"{library}\n{description}\n{_summary(made)}")
    return 0


def _compilable(exported: Path):
    """The description of an export that TVM can compile."""
    from ..deploy.description import Description

    about = Description.read(exported)
    about.files_in(exported.parent)
    if about.task:
        raise ValueError(f"{exported} describes a detector; TVM compiles classifiers alone, ONNX Runtime runs both")
    if about.format != "onnx" or about.input_shape[0] is None or about.int8 is not None:
        raise ValueError(
            f"TVM compiles float ONNX files for a fixed number of images; {exported} describes another export.\n"
            "Make one with: export NAME WEIGHTS OUT --format onnx --batch 1"
        )
    return about


def _write_question_and_answer(path: Path, about, out: Path) -> None:
    """Random input, what ONNX Runtime makes of it, and the rounding that the export found, to the .npz file `out`."""
    from ..deploy.to_onnx.files import onnx_runner

    data = np.random.RandomState(0).standard_normal(about.input_shape).astype(np.float32)
    np.savez(str(out), data=data, logits=onnx_runner(path)(data), rounding=about.difference)


def _describe(about, made, library: Path, threads: int):
    """The description of a library: as of its ONNX file, but for what TVM made of it."""
    from ..deploy.description import sha256

    return dataclasses.replace(
        about,
        format="tvm",
        files=(library.name,),
        difference=made.difference,
        compared_on=("ONNX Runtime on random input",),
        versions={**about.versions, "tvm": made.tvm},
        tvm={"processor": made.processor, "threads": threads, "sha256": sha256(library)},
        sha256={library.name: sha256(library)},
    )


def _summary(made) -> str:
    estimate = "" if made.estimate_ms is None else f"; their best times add up to {made.estimate_ms:.2f} ms, one thread"
    return (
        f"TVM {made.tvm} for {made.processor}: {made.tuned} of {made.operators} operators measured, "
        f"{made.new_trials} trials now, {made.trials} in all{estimate}\n"
        f"loaded again: largest difference from ONNX Runtime {made.difference:.1e} of the logits' standard deviation"
    )


COMMAND = Command(
    "tvm",
    "Compile an ONNX export with TVM to a library for this processor, loaded again and compared.",
    add_arguments,
    run,
)
