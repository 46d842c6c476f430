"""The compiled operators beside MXNet's: `python check.py LIBRARY` fails if they differ, without the package."""

from __future__ import annotations

import ctypes
import itertools
import sys
from typing import Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd

__all__ = ["ACTIVATIONS", "difference", "network_difference"]

# Where the slope of each activation jumps.
KINKS = {"none": (), "relu": (0,), "relu6": (0, 6), "hard_swish": (-3, 3), "swish": ()}
ACTIVATIONS = tuple(KINKS)
# Rounding moves normalized values by 1e-6 or so; a kink must not lie between two of them.
MARGIN = 1e-5
STATISTICS = {"eps": 1e-3, "momentum": 0.8}


def activate(x: mx.nd.NDArray, act: str) -> mx.nd.NDArray:
    """The activation by MXNet's operators."""
    if act == "none":
        return x
    if act in ("relu", "relu6"):
        y = mx.nd.relu(x)
        return y if act == "relu" else mx.nd.minimum(y, 6)
    return x * (mx.nd.sigmoid(x) if act == "swish" else mx.nd.hard_sigmoid(x, alpha=1 / 6, beta=0.5))


def _inputs(shape, kernel: int, seed: int) -> List[np.ndarray]:
    random, channels = np.random.RandomState(seed), shape[1]
    x = random.normal(3, 2, shape)  # far from 0, as sums of squares lose their digits there
    weight = random.normal(size=(channels, 1, kernel, kernel)) / kernel
    norm = [random.normal(1, 0.5, channels), random.normal(0, 2, channels), np.ones(channels), np.ones(channels)]
    return [values.astype(np.float32) for values in (x, weight, *norm)]


def _run(inputs: List[np.ndarray], dtype: str, call) -> List[np.ndarray]:
    """Results of `call`, the gradients of all but the statistics, and these."""
    arrays = [mx.nd.array(values, dtype=dtype) for values in inputs]
    for array in arrays[:4]:
        array.attach_grad()
    with autograd.record():
        results = call(*arrays)
        loss = sum((y * mx.nd.cos(mx.nd.arange(y.size, dtype=dtype)).reshape(y.shape)).sum() for y in results)
    loss.backward()
    mx.nd.waitall()
    return [array.asnumpy() for array in (*results, *(array.grad for array in arrays[:4]), *arrays[4:])]


def difference(shape, act: str, kernel: int = 0, stride: int = 1, pad: Optional[Tuple[int, int]] = None) -> float:
    """Largest difference from MXNet's operators in float64 on random maps (N, C, H, W), as a share of the largest.

    Of results, gradients and running statistics. Without `kernel` of effnets_bn_act, with one of effnets_depthwise;
    of effnets_scale in both cases. `pad`: lines of zeros before and behind the map, by default half the kernel.
    The maps are such that no value lies where the slope of the activation jumps, as rounding would decide there.
    """
    before, after = pad or (kernel // 2, kernel // 2)

    def compiled(x, weight, *norm):
        keys: Dict[str, object] = {"act": act, **STATISTICS}
        if kernel:
            keys.update(kernel=kernel, stride=stride, pad=before, border=before + after)
            y, mean, _ = mx.nd.effnets_depthwise(x, weight, *norm, **keys)
        else:
            y, _ = mx.nd.effnets_bn_act(x, *norm, **keys)
            mean = y.mean(axis=(2, 3), keepdims=True) + 0 * weight.sum()
        return y, mx.nd.effnets_scale(y, mean)

    def normalized(x, weight, *norm):
        if kernel:
            x = mx.nd.pad(x, mode="constant", pad_width=(0, 0, 0, 0, before, after, before, after))
            keys = {"num_filter": shape[1], "num_group": shape[1], "no_bias": True}
            x = mx.nd.Convolution(x, weight, kernel=(kernel, kernel), stride=(stride, stride), **keys)
        return mx.nd.BatchNorm(x, *norm, fix_gamma=False, **STATISTICS)

    def stock(*arrays):
        y = activate(normalized(*arrays), act)
        mean = y.mean(axis=(2, 3), keepdims=True) + 0 * arrays[1].sum()
        return y, mx.nd.broadcast_mul(y, mean)

    def is_near_a_kink(inputs) -> bool:
        with autograd.train_mode():
            values = normalized(*(mx.nd.array(array, dtype="float64") for array in inputs)).asnumpy()
        return any((np.abs(values - kink) < MARGIN).any() for kink in KINKS[act])

    draws = (_inputs(shape, kernel or 1, seed) for seed in itertools.count())
    inputs = next(drawn for drawn in draws if not is_near_a_kink(drawn))
    ours, exact = _run(inputs, "float32", compiled), _run(inputs, "float64", stock)
    return max(float(np.abs(a - b).max() / (np.abs(b).max() + 1e-12)) for a, b in zip(ours, exact))


def _packed(weight: np.ndarray) -> np.ndarray:
    """(C, inputs, sides) in the order of `effnets_network`: blocks of 16 outputs, then their inputs."""
    values = weight.reshape(len(weight), -1)
    full = np.zeros((-(-len(values) // 16) * 16, values.shape[1]), np.float32)
    full[: len(values)] = values
    return full.reshape(-1, 16, values.shape[1]).transpose(0, 2, 1).ravel()


def network_difference(act: str) -> float:
    """As `difference`, of `effnets_network`: a convolution of images, a depthwise one, both with an activation."""
    random, channels = np.random.RandomState(0), 19
    weights = [random.normal(size=size).astype(np.float32) / 3 for size in ((channels, 3, 3, 3), (channels, 1, 3, 3))]
    biases = [random.normal(size=channels).astype(np.float32) for _ in range(2)]
    x = mx.nd.array(random.normal(size=(3, 3, 15, 13)))
    arrays, places = [np.array([1] * 3 + [0] * 13, np.float32)], []
    for weight, bias in zip(weights, biases):
        places.append(sum(map(len, arrays)))
        arrays += [_packed(weight), np.pad(bias, (0, 13))]
    kernel, code = "3 3 {0} {0} 1 1 1 1 1 1", ("none", "relu", "relu6", "hard_swish", "swish").index(act)
    rows = [
        "0 3 0",
        f"1 {channels} {places[0]} {kernel.format(2)} {code} 0 1 2 1 0 0 3 0",
        f"2 32 {places[1]} {kernel.format(1)} {code} 0 1 1 0 2 0",
        f"6 {channels} 0 1 2 0 {channels}",
    ]
    ours = mx.nd.effnets_network(x, mx.nd.array(np.concatenate(arrays)), program="".join(f"{row};" for row in rows))
    y = x.astype("float64")
    for weight, bias, stride, group in zip(weights, biases, (2, 1), (1, channels)):
        keys = {"num_filter": channels, "num_group": group, "kernel": (3, 3), "stride": (stride,) * 2, "pad": (1, 1)}
        y = activate(mx.nd.Convolution(y, *(mx.nd.array(v, dtype="float64") for v in (weight, bias)), **keys), act)
    exact = y.asnumpy()
    return float(np.abs(ours.asnumpy() - exact).max() / np.abs(exact).max())


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
        found = network_difference(act)
        if not found < 1e-4:
            print(f"{act}, network: results differ by {found:.1e} of their size")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
