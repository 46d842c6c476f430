"""The scalars of updates, which a device may still compute, read with one wait for all of them."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import mxnet as mx
import numpy as np

__all__ = ["Scalars", "floats", "read_together"]


class Scalars(Dict[str, Any]):
    """Scalars by name: NDArrays (1,), or numbers. What `floats` has read once it needs not wait for again."""

    def __init__(self, values: Mapping[str, Any] = {}):
        super().__init__(values)
        self._read: Dict[str, Tuple[Any, float]] = {}

    def note(self, key: str, value: float) -> None:
        """Remember the number in the array under `key`."""
        self._read[key] = (self[key], value)

    def waits_for(self, key: str) -> bool:
        """Whether the number under `key` is in an array that has not been read."""
        return isinstance(self[key], mx.nd.NDArray) and self._read.get(key, (None,))[0] is not self[key]

    def number(self, key: str) -> float:
        """The number under `key`, which must have been read."""
        return self._read[key][1] if isinstance(self[key], mx.nd.NDArray) else float(self[key])


def floats(several: Sequence[Scalars]) -> List[Dict[str, float]]:
    """Return the numbers of several updates, after one wait for all that have not been read."""
    wanted = [(scalars, key) for scalars in several for key in scalars if scalars.waits_for(key)]
    for (scalars, key), value in zip(wanted, _values([scalars[key] for scalars, key in wanted])):
        scalars.note(key, value)
    return [{key: scalars.number(key) for key in scalars} for scalars in several]


def read_together(array: mx.nd.NDArray, scalars: Scalars) -> float:
    """Return the number in an array, and read these scalars in the same wait."""
    wanted = [key for key in scalars if scalars.waits_for(key)]
    value, *others = _joined([array, *(scalars[key] for key in wanted)])
    for key, other in zip(wanted, others):
        scalars.note(key, other)
    return value


def _values(arrays: Sequence[mx.nd.NDArray]) -> List[float]:
    if any(array.context.device_type != "cpu" for array in arrays):
        return _joined(arrays)
    # On a CPU the loop has waited: the numbers are read where they are.
    return [float(np.from_dlpack(_Memory(array)).reshape(-1)[0]) for array in arrays]


def _joined(arrays: Sequence[mx.nd.NDArray]) -> List[float]:
    flat = [array.reshape((-1,)).astype("float32", copy=False) for array in arrays]
    return (mx.nd.concat(*flat, dim=0) if len(flat) > 1 else flat[0]).asnumpy().tolist()


class _Memory:
    """An array as NumPy asks for it, to share its memory."""

    def __init__(self, array: mx.nd.NDArray):
        self._array = array

    def __dlpack__(self, stream=None):
        return self._array.to_dlpack_for_read()

    def __dlpack_device__(self):
        return 1, 0  # main memory
