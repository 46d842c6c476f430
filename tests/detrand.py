"""Tensors that follow from their name and shape, so that reference logits need no stored weights."""

from __future__ import annotations

import zlib

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
