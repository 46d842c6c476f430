"""Reading files of weights, without running code in them: PyTorch, safetensors, NumPy, MXNet, TensorFlow Lite."""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import mxnet as mx
import numpy as np

from .._requirements import optional_import
from ..files.mistakes import as_mistakes
from ..files.npz import read_npz
from ..files.params_header import load_arrays
from ..files.regular import MOST_WEIGHTS, UnreadableFileError, opened, read_bytes
from ..files.schema import table_of, text
from ..files.side_json import parse_json
from ..files.text import shown
from ..models.card import CARD_MARKS, check_marks
from ..runtime.files import named
from .checkpoint import Checkpoint
from .tflite_file import read_tflite_file
from .torch_file import ForeignObjectError, read_torch_file

__all__ = ["OWN", "read_checkpoint", "to_array"]

log = logging.getLogger(__name__)

WEIGHTS = ("state_dict", "model")
_MOST_NUMBERS = 1 << 29  # of all tensors
_MOST_HEADER = 1 << 25  # bytes of the header of a safetensors file
# Our own names and shapes among those of other implementations, whose packages they do not need.
OWN = "safetensors"
EMA_WEIGHTS = ("state_dict_ema", "model_ema")

_SAFETENSORS_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def to_array(value: Any) -> np.ndarray:
    """Return a NumPy, MXNet or PyTorch array as NumPy's; every floating type becomes float32."""
    if isinstance(value, mx.nd.NDArray):
        return value.astype("float32").asnumpy()
    if hasattr(value, "detach"):  # PyTorch; NumPy has no bfloat16 to receive
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() else value).numpy()
    array = np.asarray(value)
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def read_checkpoint(path, ema: bool = False) -> Checkpoint:
    """Read the tensors of a checkpoint file by name; floating types become float32.

    Weights wrapped in `state_dict` or `model` are taken out. The architecture that training scripts and safetensors'
    metadata name is kept (`Checkpoint.architecture`).

    Args:
        path: A file of PyTorch (`.pth`, `.pt`, `.bin`, `.pth.tar`), `.safetensors`, with the extra `torch`, `.tflite`,
            with the extra `tflite`, `.npz` or `.params`.
        ema: Take the weights in `state_dict_ema` or `model_ema`, the moving average that many recipes evaluate.

    Raises:
        FileNotFoundError: Without the file.
        ValueError: For a file that is damaged, of another kind, without the weights asked for, or that wants to run
            code.
        ImportError: Without the package that reads it.
    """
    path = Path(path).expanduser()
    with opened(path, "checkpoint", MOST_WEIGHTS):
        pass  # pipes, devices and folders are refused, whatever the readers do
    reader = next((read for ending, read in _READERS.items() if path.name.lower().endswith(ending)), None)
    if reader is None:
        raise ValueError(f"{named(path)}: unknown kind of file; checkpoints end in {', '.join(_READERS)}")
    content = reader(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not tensors by name: save the state_dict() instead")
    tensors = _unwrap(path, content, ema)
    others = [key for key, value in tensors.items() if not hasattr(value, "shape")]
    if others or not tensors:
        found = ", ".join(map(str, others[:3])) or "nothing"
        raise ValueError(
            f"{path}: no tensors but {found}; looked for at the top level and in {', '.join(WEIGHTS)}.\n"
            "Save them alone: torch.save(model.state_dict(), ...)"
        )
    # A tensor of PyTorch may say that it is as large as it likes: its numbers can be one number.
    if sum(math.prod(value.shape) for value in tensors.values()) > _MOST_NUMBERS:
        raise ValueError(f"{path} has tensors of more than {_MOST_NUMBERS:,} numbers")
    with as_mistakes(f"{path} has tensors that are no plain arrays"):
        checkpoint = Checkpoint({str(key): to_array(value) for key, value in tensors.items()})
    metadata = _metadata(path) if path.name.lower().endswith(".safetensors") else {}
    checkpoint.path, checkpoint.architecture = path, _architecture(metadata or content)
    checkpoint.marks = _marks(path, metadata)
    if isinstance(content, Checkpoint):
        checkpoint.preprocessing = content.preprocessing
    return checkpoint


def _architecture(content: Mapping) -> Optional[str]:
    """The architecture in safetensors' metadata, or in what timm's and torchvision's training scripts store."""
    arguments = vars(content["args"]) if isinstance(content.get("args"), argparse.Namespace) else {}
    found = [(content, key) for key in ("architecture", "arch", "model_name", "model")] + [(arguments, "model")]
    named = next((values[key] for values, key in found if isinstance(values.get(key), str)), None)
    return named and named.rpartition("/")[2]


def _metadata(path: Path) -> Dict[str, str]:
    """The texts in the header of a safetensors file: a length of 8 bytes, then so much JSON."""
    with opened(path, "checkpoint", MOST_WEIGHTS) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MOST_HEADER:
            raise ValueError(f"{path} has a header of {length:,} bytes; at most {_MOST_HEADER:,} are read")
        header = parse_json(file.read(length), f"the header of {path}")
    table_of(lambda value, where: None, 1_000_000)(header, f"the header of {path}")
    metadata = header.get("__metadata__", {})
    table_of(text(1 << 20))(metadata, f"the header of {path}: __metadata__")
    return metadata


def _marks(path: Path, metadata: Mapping[str, str]) -> Dict[str, Any]:
    """What a file with our own names tells of its network: the identity, and the entries of the card."""
    if metadata.get("names_of") != OWN or "identity" not in metadata:
        return {}
    where = f"the header of {path}"
    identity = parse_json(metadata["identity"], where)
    check_marks(identity, where)
    card = {key: parse_json(metadata[key], where) for key in CARD_MARKS if key in metadata}
    return {**identity, **card}


def _unwrap(path: Path, content: Mapping, ema: bool) -> Mapping:
    averaged = [key for key in EMA_WEIGHTS if isinstance(content.get(key), Mapping)]
    current = [key for key in WEIGHTS if isinstance(content.get(key), Mapping)]
    if ema:
        if not averaged:
            raise ValueError(f"{path} has no EMA weights ({' or '.join(EMA_WEIGHTS)}): read it without ema")
        return content[averaged[0]]
    if averaged and current:
        log.warning("%s also has EMA weights (%s), which usually score higher: ema=True", path, averaged[0])
    elif averaged:
        raise ValueError(f"{path} has EMA weights alone ({averaged[0]}): read it with ema=True")
    return content[current[0]] if current else content


def _read_torch(path: Path):
    try:
        return read_torch_file(path)
    except ForeignObjectError as error:
        raise ValueError(
            f"{path} is refused: besides tensors it holds {shown(str(error))}, and a pickle can run code.\n"
            "If you trust its author, load it in PyTorch and save the tensors alone: "
            "torch.save(model.state_dict(), path)"
        ) from None
    except Exception as error:  # of a pickle that builds something else than it says
        raise _damaged(path, "PyTorch", error) from None


def _read_safetensors(path: Path):
    safetensors = optional_import("safetensors", extra="torch", why=f"read {path.name}")
    content = read_bytes(path, "checkpoint", MOST_WEIGHTS)
    try:
        entries = safetensors.deserialize(content)
    except Exception as error:  # those of its language, beside its own
        raise _damaged(path, "safetensors", error) from None
    _metadata(path)  # which refuses what cannot be read later
    return {name: _decode(path, entry).reshape(entry["shape"]) for name, entry in entries}


def _decode(path: Path, entry: Mapping) -> np.ndarray:
    if entry["dtype"] == "BF16":
        # A bfloat16 is the upper half of a float32.
        return (np.frombuffer(entry["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
    if entry["dtype"] not in _SAFETENSORS_TYPES:
        raise ValueError(f"{path}: tensors of type {entry['dtype']} cannot be read; save them as F32")
    return np.frombuffer(entry["data"], _SAFETENSORS_TYPES[entry["dtype"]])


def _read_npz(path: Path):
    try:
        return read_npz(path, "checkpoint")
    except UnreadableFileError as error:
        raise _damaged(path, ".npz", error) from None


def _read_params(path: Path):
    try:
        return load_arrays(path, "checkpoint")
    except UnreadableFileError as error:
        raise _damaged(path, ".params", error) from None


def _read_tflite(path: Path):
    try:
        return read_tflite_file(path)
    except ValueError as error:
        raise ValueError(f"{path} is no TensorFlow Lite file that can be read here: {error}") from None


def _damaged(path: Path, kind: str, error: Exception) -> ValueError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return ValueError(f"{path} is not a complete {kind} file of arrays: {shown(reason, 300)}")


_READERS = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
    ".pth.tar": _read_torch,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".params": _read_params,
    ".tflite": _read_tflite,
}
