"""Tensors that follow from their name and shape, so that reference logits need no stored weights."""

from __future__ import annotations

import base64
import zlib
from typing import Any, Dict

import numpy as np


def tensor(key: str, shape) -> np.ndarray:
    """The value of the tensor `key` of a state dict: float32, but int64 zero for num_batches_tracked.

    Two or more axes: normal with variance 2 / fan_in, fan_in being the product of all axes but the first.
    One axis: weight and running_var uniform in 0.5 to 1.5, bias and running_mean normal of deviation 0.1.
    """
    kind = key.split(".")[-1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    random = np.random.RandomState(zlib.crc32(key.encode()) % 2**31)
    if len(shape) > 1:
        values = random.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    elif kind in ("weight", "running_var"):
        values = random.uniform(0.5, 1.5, shape)
    else:
        values = random.standard_normal(shape) * 0.1
    return values.astype(np.float32)


def images(n: int, size: int, seed: int) -> np.ndarray:
    """A float32 batch (n, 3, size, size) of normal values."""
    return np.random.RandomState(seed).standard_normal((n, 3, size, size)).astype(np.float32)


def state(reference: Dict[str, Any]) -> Dict[str, np.ndarray]:
    """The state dict of a reference: tensors by the rule, but those that it gives explicitly."""
    explicit = reference.get("explicit", {})
    return {key: decoded(explicit[key]) if key in explicit else tensor(key, shape) for key, shape in reference["state"]}


def decoded(entry: Dict[str, Any]) -> np.ndarray:
    """A tensor that is given explicitly: one value, a list, rows of zeros with a single one, or a packed mask."""
    if entry["enc"] == "fill":
        return np.full(entry["shape"], entry["value"], entry["dtype"])
    if entry["enc"] == "list":
        return np.array(entry["values"], entry["dtype"]).reshape(entry["shape"])
    if entry["enc"] == "onehot_rows":
        return np.eye(entry["shape"][1], dtype=entry["dtype"])[entry["cols"]]
    rows, columns = entry["pack_shape"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(entry["b64"]), np.uint8))[: rows * columns]
    # The rows of a learned group convolution repeat themselves, or the columns of a reactivation.
    times = (entry["shape"][0] // rows, entry["shape"][1] // columns)
    mask = np.tile(bits.reshape(rows, columns), times).reshape(entry["shape"]).astype(np.float32)
    assert entry.get("crc32_full_u8") in (None, zlib.crc32(mask.astype(np.uint8).tobytes()))
    return mask
