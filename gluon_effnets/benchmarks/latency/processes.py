"""Worker processes of a measurement as their parent sees them: started, asked, stopped while another one measures."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from ..._requirements import install_command

__all__ = ["Worker", "WorkerError", "environment", "turn"]

# The extra that a kind of worker needs.
EXTRA = {"mxnet": "cpu", "onnxruntime": "onnx", "openvino": "openvino", "torch": "torch", "tvm": "tvm"}


class WorkerError(ChildProcessError):
    """A runtime that is missing, cannot build a network, or died: one line."""


def environment(threads: int) -> Dict[str, str]:
    """Variables for workers of so many threads.

    With more than one, threads wait actively unless the user says otherwise: those that sleep between the many small
    operators make two threads slower than one.
    """
    variables = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS"), str(threads)
    )
    if threads > 1:
        variables["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "ACTIVE")
    return variables


class Worker:
    """A process of one runtime ('mxnet', 'onnxruntime', 'openvino', 'torch', 'tvm').

    `versions`: of what it imported. `peak_bytes`: its memory then. Raises WorkerError if the runtime is missing.
    """

    def __init__(self, kind: str, threads: int, python: Optional[str] = None):
        self.kind, python = kind, python or sys.executable
        folder = Path(__file__).parent
        command = [python, str(folder / "worker.py"), str(folder / f"in_{kind}.py"), str(threads)]
        self._errors = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment(threads)},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"{python} cannot be started: {error.strerror}") from None
        assert self._process.stdin and self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout
        try:
            self.about = self._read()
        except BaseException as error:
            self.close()
            if isinstance(error, WorkerError):
                hint = install_command(EXTRA[kind], python)
                raise WorkerError(f"{kind} cannot be imported ({error}); install it with: {hint}") from None
            raise
        self.versions, self.peak_bytes = self.about["versions"], self.about["peak_bytes"]

    def ask(self, do: str, **content) -> Dict[str, Any]:
        """The answer to a request (see worker.py). Raises WorkerError if it is an error, or the process died."""
        with contextlib.suppress(BrokenPipeError):  # told by what follows
            self._requests.write(json.dumps({"do": do, **content}) + "\n")
            self._requests.flush()
        return self._read()

    def _read(self) -> Dict[str, Any]:
        line = self._answers.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise WorkerError(f"the {self.kind} process ended ({how})" + (f": {said[-1][:300]}" if said else ""))
        content = json.loads(line)
        if "error" in content:
            raise WorkerError(content["error"])
        return content

    def pause(self) -> None:
        """Stop the process, with all its threads, before returning."""
        self._process.send_signal(signal.SIGSTOP)
        with contextlib.suppress(ChildProcessError):  # it died and was seen already
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let the process run again."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process, whatever it does, also if it is stopped."""
        self._process.kill()
        self._process.wait()
        for close in (self._requests.close, self._answers.close, self._errors.close):
            with contextlib.suppress(BrokenPipeError):
                close()


@contextlib.contextmanager
def turn(worker: Worker) -> Iterator[Worker]:
    """Let a paused worker run inside the with-block alone: threads that wait actively take the others' time."""
    worker.resume()
    try:
        yield worker
    finally:
        worker.pause()
