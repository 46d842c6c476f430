"""The compiled operators beside MXNet's: `python check.py LIBRARY` fails if they differ, without the package."""

from __future__ import annotations

import ctypes
import sys
from typing import Dict, List

import mxnet as mx
import numpy as np
from mxnet import autograd

__all__ = ["ACTIVATIONS", "difference"]

ACTIVATIONS = ("none", "relu", "relu6", "hard_swish", "swish")
STATISTICS = {"eps": 1e-3, "momentum": 0.8}


def activate(x: mx.nd.NDArray, act: str) -> mx.nd.NDArray:
    """The activation by MXNet's operators."""
    if act == "none":
        return x
    if act in ("relu", "relu6"):
        y = mx.nd.relu(x)
        return y if act == "relu" else mx.nd.minimum(y, 6)
    return x * (mx.nd.sigmoid(x) if act == "swish" else mx.nd.hard_sigmoid(x, alpha=1 / 6, beta=0.5))


def _inputs(shape, kernel: int) -> List[mx.nd.NDArray]:
    random, channels = np.random.RandomState(0), shape[1]
    x = random.normal(3, 2, shape)  # far from 0, as sums of squares lose their digits there
    weight = random.normal(size=(channels, 1, kernel, kernel)) / kernel
    norm = [random.normal(1, 0.5, channels), random.normal(0, 2, channels), np.ones(channels), np.ones(channels)]
    return [mx.nd.array(values) for values in (x, weight, *norm)]


def _run(arrays: List[mx.nd.NDArray], call) -> List[np.ndarray]:
    """Results of `call`, the gradients of all but the statistics, and these."""
    for array in arrays[:4]:
        array.attach_grad()
    with autograd.record():
        results = call(*arrays)
        loss = sum((y * mx.nd.cos(mx.nd.arange(y.size)).reshape(y.shape)).sum() for y in results)
    loss.backward()
    return [array.asnumpy() for array in (*results, *(array.grad for array in arrays[:4]), *arrays[4:])]


def difference(shape, act: str, kernel: int = 0, stride: int = 1, same: bool = False) -> float:
    """Largest difference between the operators and MXNet's on random maps (N, C, H, W), as a share of the largest.

    Of results, gradients and running statistics. Without `kernel` of effnets_bn_act, with one of effnets_depthwise;
    of effnets_scale in both cases. `same`: one more line of zeros at the end than at the beginning.
    """
    before = (kernel - 2) // 2 if same else kernel // 2
    border = 2 * before + same if kernel else 0

    def compiled(x, weight, *norm):
        keys: Dict[str, object] = {"act": act, **STATISTICS}
        if kernel:
            keys.update(kernel=kernel, stride=stride, pad=before, border=border)
            y, mean, _ = mx.nd.effnets_depthwise(x, weight, *norm, **keys)
        else:
            y, _ = mx.nd.effnets_bn_act(x, *norm, **keys)
            mean = y.mean(axis=(2, 3), keepdims=True) + 0 * weight.sum()
        return y, mx.nd.effnets_scale(y, mean)

    def stock(x, weight, *norm):
        if kernel:
            after = border - before
            x = mx.nd.pad(x, mode="constant", pad_width=(0, 0, 0, 0, before, after, before, after))
            keys = {"num_filter": shape[1], "num_group": shape[1], "no_bias": True}
            x = mx.nd.Convolution(x, weight, kernel=(kernel, kernel), stride=(stride, stride), **keys)
        y = activate(mx.nd.BatchNorm(x, *norm, fix_gamma=False, **STATISTICS), act)
        mean = y.mean(axis=(2, 3), keepdims=True) + 0 * weight.sum()
        return y, mx.nd.broadcast_mul(y, mean)

    ours, theirs = (_run(_inputs(shape, kernel or 1), call) for call in (compiled, stock))
    return max(float(np.abs(a - b).max() / (np.abs(b).max() + 1e-12)) for a, b in zip(ours, theirs))


def main(library: str) -> int:
    """Load a library and compare; the exit code of the process."""
    # What MXNet contains becomes visible to all, as it does once Horovod is loaded.
    ctypes.CDLL(mx.base._LIB._name, ctypes.RTLD_GLOBAL)
    mx.library.load(library, verbose=False)
    for act in ACTIVATIONS:
        for kernel in (0, 3, 5):
            found = difference((4, 19, 15, 13), act, kernel, 1 + (kernel == 5))
            if not found < 1e-4:
                print(f"{act}, kernel {kernel}: results differ by {found:.1e} of their size")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
