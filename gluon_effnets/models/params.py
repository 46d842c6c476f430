"""Parameter files: written whole, read with clear errors, and marked with the network they belong to."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import mxnet as mx
import numpy as np

from .preprocessing import Preprocessing

__all__ = ["Stored", "assign", "check_identity", "read", "save"]

log = logging.getLogger(__name__)

# The one array of a file that is no parameter: JSON, as bytes, of what shapes do not show (model, padding, ...).
IDENTITY = "gluon_effnets.identity"
# In it, if it is not the default; no part of the identity, as any network can take weights of any preprocessing.
PREPROCESSING = "preprocessing"


class Stored(NamedTuple):
    """Content of a file: `identity` is empty for files that others wrote, `preprocessing` None for the usual one."""

    arrays: Dict[str, mx.nd.NDArray]
    identity: Dict[str, Any]
    preprocessing: Optional[Preprocessing]


def save(net, path) -> None:
    """Write parameters, identity and preprocessing of a network; the file is complete or as it was before."""
    arrays = {key: param._reduce() for key, param in net._collect_params_with_prefix().items()}
    usual = net.preprocessing == Preprocessing()
    marks = net.identity if usual else {**net.identity, PREPROCESSING: net.preprocessing._asdict()}
    text = json.dumps(marks, sort_keys=True).encode()
    arrays[IDENTITY] = mx.nd.array(np.frombuffer(text, np.uint8), dtype="uint8")
    temporary = Path(f"{path}.tmp")
    try:
        mx.nd.save(str(temporary), arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path) -> Stored:
    """Read a `.params` file. Raises FileNotFoundError, or ValueError if it is cut short or no such file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        arrays = mx.nd.load(str(path))
    except mx.base.MXNetError:
        raise ValueError(f"{path} is not a .params file, or it is cut short") from None
    if not isinstance(arrays, dict):
        raise ValueError(f"{path} holds arrays without names, not the parameters of a network")
    if IDENTITY not in arrays:
        return Stored(arrays, {}, None)
    identity = json.loads(arrays.pop(IDENTITY).asnumpy().tobytes())
    values = identity.pop(PREPROCESSING, None)
    if values is None:
        return Stored(arrays, identity, None)
    mean, std = (tuple(values.pop(key)) for key in ("mean", "std"))
    return Stored(arrays, identity, Preprocessing(mean, std, **values))


def assign(net, stored: Stored, path, *, ctx=None, allow_missing=False, ignore_extra=False, **cast) -> None:
    """Give a network the stored arrays, all or none.

    Takes the names of `save_parameters` and those of exported files. Raises ValueError saying what does not fit.
    """
    check_identity(net, stored.identity, path)
    params = net._collect_params_with_prefix()
    arrays = _without_export_names(net, stored.arrays)
    missing = [] if allow_missing else sorted(params.keys() - arrays.keys())
    extra = [] if ignore_extra else sorted(arrays.keys() - params.keys())
    common = params.keys() & arrays.keys()
    other = sorted(key for key in common if arrays[key].shape != params[key].shape)
    shapes = [f"{key} {arrays[key].shape} for {params[key].shape}" for key in other]
    if missing or extra or shapes:
        raise ValueError(
            f"{path} does not fit {net.identity['model']}; are these the weights of another network?\n"
            + "; ".join(
                _some(*kind) for kind in (("missing", missing), ("unknown", extra), ("shape", shapes)) if kind[1]
            )
        )
    for key in common:
        params[key]._load_init(arrays[key], ctx, **cast)
    if stored.identity:
        net.preprocessing = stored.preprocessing or Preprocessing()


def check_identity(net, stored: Dict[str, Any], path) -> None:
    """Raise ValueError if the weights at `path` belong to another network, also if only an option differs."""
    if not stored:
        return
    own = json.loads(json.dumps(net.identity))  # numbers as keys become texts, as in the file
    other = [key for key in sorted(stored.keys() | own.keys()) if stored.get(key) != own.get(key)]
    if "model" in other:
        raise ValueError(f"{path} holds the weights of {stored['model']}, not of {own['model']}")
    if other:
        differences = ", ".join(f"{key}={stored.get(key)!r} (here {own.get(key)!r})" for key in other)
        raise ValueError(f"{path} belongs to a network with {differences}.\nBuild the network with these options.")


def _without_export_names(net, arrays: Dict[str, mx.nd.NDArray]) -> Dict[str, mx.nd.NDArray]:
    """Exported files name a parameter 'arg:<prefix of the instance><rest>'; the rest is common to all instances."""
    if not all(key.startswith(("arg:", "aux:")) for key in arrays):
        return arrays
    names = {param.name[len(net.prefix) :]: key for key, param in net._collect_params_with_prefix().items()}
    short = {key.split(":", 1)[1].split("_", 1)[-1]: array for key, array in arrays.items()}
    return {names.get(name, name): array for name, array in short.items()}


def _some(what: str, keys: List[str]) -> str:
    more = f" and {len(keys) - 2} more" if len(keys) > 2 else ""
    return f"{what}: {', '.join(keys[:2])}{more}"
