"""ONNX files in 8 bits in runtimes of another interpreter: the parent's side of int8_worker.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

__all__ = ["Int8Worker"]


class Int8Worker:
    """A process that runs files 'int8' and 'float' in a runtime, or quantizes with NNCF.

    Args:
        runtime: 'onnxruntime', 'openvino' or 'nncf'.
        python: The interpreter that has it; None: this one.
        folder: Where arrays are left for it.

    Raises:
        FileNotFoundError: There is no such interpreter.
    """

    def __init__(self, runtime: str, python: Optional[str], folder: Path):
        self.runtime, self._folder = runtime, folder
        command = [python or sys.executable, str(Path(__file__).with_name("int8_worker.py")), runtime]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise FileNotFoundError(f"{command[0]} cannot be started: {error.strerror}") from None

    def ask(self, do: str, images: Optional[np.ndarray] = None, **job: Any) -> Dict[str, Any]:
        """Return its answer. Raises ImportError for what it does not have, ValueError for what fails."""
        if images is not None:
            job["images"] = str(self._folder / "images.npy")
            np.save(job["images"], np.ascontiguousarray(images, np.float32))
        assert self._process.stdin and self._process.stdout, "both are pipes"
        self._process.stdin.write(json.dumps({"do": do, **job}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            missing = "ModuleNotFoundError" in answer["error"]
            remedy = "; name an interpreter that has it: --onnx-python PATH" if missing else ""
            raise (ImportError if missing else ValueError)(f"{self.runtime}: {answer['error']}{remedy}")
        return answer

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the answers of the file 'int8'."""
        out = self._folder / "logits.npy"
        self.ask("logits", images, out=str(out))
        return np.load(out)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout, "both are pipes"
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
