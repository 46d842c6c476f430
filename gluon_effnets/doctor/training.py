"""Whether training works here: a step in every precision, decoding in threads, and an exchange between workers."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

from .._requirements import install_command
from .finding import ChildFailed, Finding, ask, fine, last_line, note, wrong
from .machine import allowed_processors

__all__ = ["decoding", "exchange", "steps"]

_TRIAL = f"{__package__}.trial"
# Largest difference of the gradients from float32's on a CPU, as a share of their norm.
_ROUNDING, _HALF, _BFLOAT = 1e-3, 0.1, 0.5
_SCALING = 0.6
_WORKERS_S = 120


class _Step:
    """What one training step gave; `difference` is that of the gradients from another step's, as a share of them."""

    def __init__(self, precision: str, device: str, environment: Mapping[str, str] = os.environ):
        import numpy as np

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "gradients.npy"
            answer = ask(["-m", _TRIAL, "step", precision, device, str(file)], environment=environment)
            self.gradients = np.load(file)
        self.loss, self.images_per_s, self.operators = (answer[key] for key in ("loss", "images_per_s", "operators"))

    def difference(self, other: _Step) -> float:
        import numpy as np

        return float(np.linalg.norm(self.gradients - other.gradients) / np.linalg.norm(other.gradients))


def steps(gpus: int) -> Iterator[Finding]:
    """Train a step of a small network on the CPU and on a GPU, in every precision, and compare the gradients."""
    try:
        reference = _Step("float32", "cpu", {**os.environ, "GLUON_EFFNETS_NATIVE": "0"})
    except ChildFailed as error:
        yield wrong("training, float32 on the CPU", f"a step {error}", install_command("cpu"))
        return
    yield fine("training, float32 on the CPU", _rate(reference))
    kinds = [("float32", "cpu", _ROUNDING, "compiled operators"), ("bfloat16", "cpu", _BFLOAT, "bfloat16 on the CPU")]
    if gpus:
        kinds += [("float32", "gpu", _ROUNDING, "float32 on the GPU"), ("float16", "gpu", _HALF, "float16 on the GPU")]
    for precision, device, most, name in kinds:
        subject = f"training, {name}"
        try:
            found = _Step(precision, device)
        except ChildFailed as error:
            cure = "compare driver, CUDA 11.2 and cuDNN 8" if device == "gpu" else "leave it out of recipes"
            yield wrong(subject, f"a step {error}", cure)
            continue
        if name == "compiled operators" and found.operators != "compiled":
            continue
        yield _compared(subject, found, reference, most, device)


def _rate(step: _Step) -> str:
    return f"loss {step.loss:.4f}, {step.images_per_s:,.0f} images/s of 64 x 64"


def _compared(subject: str, found: _Step, reference: _Step, most: float, device: str) -> Finding:
    difference = found.difference(reference)
    text = f"{_rate(found)}, gradients differ by {difference:.1e} from float32's on the CPU"
    if difference <= most:
        return fine(subject, text)
    if device == "gpu" and most == _ROUNDING and difference <= _HALF:
        return note(subject, text, "export NVIDIA_TF32_OVERRIDE=0 makes float32 exact")
    cure = "python -m gluon_effnets native --force" if "compiled" in subject else "do not train in this precision here"
    return wrong(subject, text, cure)


def decoding() -> Iterator[Finding]:
    """Decode photographs in one thread and in as many as there are processors."""
    most = max(1, int(allowed_processors()))
    rates: Dict[int, float] = {}
    for threads in sorted({1, most}):
        try:
            rates[threads] = ask(["-m", _TRIAL, "decode", str(threads)])["images_per_s"]
        except ChildFailed as error:
            yield wrong("decoding", f"in {threads} threads {error}", "install OpenCV anew; see opencv above")
            return
    found = ", ".join(f"{rate:,.0f} photographs/s with {threads} thread(s)" for threads, rate in rates.items())
    if rates[most] < _SCALING * most * rates[1]:
        yield note("decoding", f"{found}: threads gain little", "let nothing else compute here")
    else:
        yield fine("decoding", f"{found}; set data.num_threads to the threads of a worker")


def exchange(gpus: int) -> Iterator[Finding]:
    """Let workers, one for every GPU or two on the CPU, sum an array."""
    program = shutil.which(
        "horovodrun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if importlib.util.find_spec("horovod") is None or program is None:
        return
    if gpus == 1:
        return  # there is one worker, which has nobody to talk to
    number = gpus or 2
    subject = f"{number} workers"
    command = [program, "-np", str(number), sys.executable, "-m", _TRIAL, "exchange"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_WORKERS_S)
    except subprocess.TimeoutExpired:
        yield wrong(
            subject,
            f"have not met within {_WORKERS_S} s",
            "NCCL_DEBUG=INFO horovodrun ... tells more",
        )
        return
    answer = _answer(done.stdout)
    if done.returncode or answer is None:
        cure = "horovodrun --check-build; python -m gluon_effnets doctor tells how to build it"
        yield wrong(subject, f"do not exchange: {last_line(done.stderr or done.stdout)}", cure)
    elif not answer["right"]:
        yield wrong(subject, "exchange, but the sum is wrong", "build Horovod for this MXNet anew")
    else:
        yield fine(subject, f"exchange 40 MB with {answer['mb_per_s']:,.0f} MB/s")


def _answer(text: str) -> Optional[Dict[str, Any]]:
    """The answer of worker 0 in the output of a job, whose lines begin with the number of a worker."""
    for line in text.splitlines():
        place = line.find('{"rank"')
        if place >= 0:
            return json.loads(line[place:])
    return None
