"""Arithmetic on many arrays with few operators: launching one for each costs more than what it computes."""

from __future__ import annotations

import math
from typing import Iterator, List, Sequence

import mxnet as mx
import numpy as np

__all__ = ["Average", "Scale", "all_finite", "groups", "sums_of_squares"]

# The update kernels take 60 arrays, and visit every array for each element of the largest: of `_GROUP_ELEMENTS` in all
# the average of a network's weights takes half of the time of an operator per weight on a CPU.
_GROUP_ARRAYS, _GROUP_ELEMENTS = 60, 1_000_000
# multi_all_finite takes more arrays than a device has arguments for; MXNet's own loss scaler has this number, too.
_FINITE_ARRAYS = 200
# From about here BLAS beats multi_sum_sq on a CPU, and its sum is the more exact.
_DOT_ELEMENTS = 50_000


def groups(sizes: Sequence[int], elements: int = _GROUP_ELEMENTS) -> Iterator[slice]:
    """Divide arrays, in their order, for the update kernels.

    Args:
        sizes: Numbers of elements, ascending.
        elements: Limit of the largest size of a group times its number of arrays.
    """
    begin, largest = 0, 0
    for end, size in enumerate(sizes):
        largest = max(largest, size)
        if end > begin and (end - begin == _GROUP_ARRAYS or largest * (end - begin + 1) > elements):
            yield slice(begin, end)
            begin, largest = end, size
    yield slice(begin, len(sizes))


class _Multi:
    """out = weight - rate * (-gradient + decay * weight), with one kernel for a group of arrays.

    The rate is a number on the device, which nobody waits for. All arrays are float32 and stay the same objects.
    """

    def __init__(self, weights: Sequence, gradients: Sequence, outs: Sequence, decay: float):
        order = sorted(range(len(outs)), key=lambda i: outs[i].size)
        self._groups: List[tuple] = []
        self._longest = 0
        for group in groups([outs[i].size for i in order]) if order else ():
            members = order[group]
            arrays = [array for i in members for array in (weights[i], gradients[i])]
            decays = mx.nd.full((len(members),), decay, ctx=outs[0].context)
            self._groups.append((arrays, decays, [outs[i] for i in members]))
            self._longest = max(self._longest, len(members))

    def __call__(self, rate: mx.nd.NDArray) -> None:
        rates = mx.nd.broadcast_to(rate, shape=(self._longest,)) if self._groups else rate
        for arrays, decays, outs in self._groups:
            mx.nd.preloaded_multi_sgd_update(
                *arrays, rates[: len(outs)], decays, out=outs, num_weights=len(outs), rescale_grad=-1.0
            )


class Average:
    """average += share * (value - average), for pairs of arrays; a call takes the share, (1,) on their device."""

    def __init__(self, averages: Sequence[mx.nd.NDArray], values: Sequence[mx.nd.NDArray]):
        self._multi = _Multi(averages, values, averages, decay=1.0)

    def __call__(self, share: mx.nd.NDArray) -> None:
        self._multi(share)


class Scale:
    """array *= factor, for many arrays; a call takes the factor, (1,) on their device."""

    def __init__(self, arrays: Sequence[mx.nd.NDArray]):
        # The product is exact: 0 - factor * -array. All arrays share one memory of zeros.
        zeros = mx.nd.zeros((max(array.size for array in arrays),), ctx=arrays[0].context) if arrays else mx.nd.zeros(1)
        self._multi = _Multi([zeros[: a.size].reshape(a.shape) for a in arrays], arrays, arrays, decay=0.0)

    def __call__(self, factor: mx.nd.NDArray) -> None:
        self._multi(factor)


def all_finite(arrays: Sequence[mx.nd.NDArray]) -> mx.nd.NDArray:
    """1 if all elements of all arrays, of which there is at least one, are finite, else 0; (1,), not waited for."""
    finite = mx.nd.ones((1,), ctx=arrays[0].context)
    for begin in range(0, len(arrays), _FINITE_ARRAYS):
        part = arrays[begin : begin + _FINITE_ARRAYS]
        mx.nd.multi_all_finite(*part, num_arrays=len(part), init_output=False, out=finite)
    return finite


def sums_of_squares(arrays: Sequence[mx.nd.NDArray]) -> mx.nd.NDArray:
    """The sum of squares of every array, as a vector; arrays in ascending order of size."""
    # multi_sum_sq squares float16 in float16 on a CPU: infinite from 256 on.
    arrays = [array if array.dtype == np.float32 else array.astype("float32") for array in arrays]
    limit = _DOT_ELEMENTS if arrays[0].context.device_type == "cpu" else math.inf
    small = [array for array in arrays if array.size < limit]
    sums: List[mx.nd.NDArray] = [mx.nd.multi_sum_sq(*small, num_arrays=len(small))] if small else []
    for array in arrays[len(small) :]:
        flat = array.reshape((-1,))
        sums.append(mx.nd.dot(flat, flat))
    return mx.nd.concat(*sums, dim=0) if len(sums) > 1 else sums[0]
