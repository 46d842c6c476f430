"""BN's means and variances as plain averages over batches, for weights that stay as they are."""

from __future__ import annotations

import contextlib
from typing import Callable, Dict, Iterable, Iterator, List, Tuple

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import nn
from mxnet.gluon.block import Block, HybridBlock

__all__ = ["batch_statistics", "restore_folded", "statistics_layers", "watch_moments"]


def batch_statistics(net: Block, batches: Iterable[mx.nd.NDArray]) -> Dict[str, mx.nd.NDArray]:
    """Pass `batches` of images through `net` as in training; return what its running statistics should then be.

    The keys are those of `net._collect_params_with_prefix()` ('....running_mean', '....running_var'), the values the
    means over the batches, each with the same weight, of every batch's mean and unbiased variance. That is what PyTorch
    stores with a momentum of 1 / number of the batch; MXNet itself stores biased variances.
    Nothing in `net` changes, hybridized or not. BN layers with `use_global_stats` are left out.

    Args:
        net: With BN layers.
        batches: Images (N, C, H, W), on the device of the network.

    Raises:
        ValueError: There is no batch, no BN layer, or a layer sees one value per channel alone.
    """
    names = {id(param): name for name, param in net._collect_params_with_prefix().items()}
    moments: Dict[str, mx.nd.NDArray] = {}  # sums over the batches so far
    counts: Dict[str, int] = {}

    def add(layer, mean, variance) -> None:
        for param, value in ((layer.running_mean, mean), (layer.running_var, variance)):
            name = names[id(param)]
            # Of a thousand batches and more float32 would lose the last digits.
            value = value.astype("float64")
            moments[name] = moments[name] + value if name in moments else value
            counts[name] = counts.get(name, 0) + 1

    with watch_moments(net, add):
        for batch in batches:
            net(batch)
            # Imperative calls return at once: without a wait batches would pile up in memory.
            mx.nd.waitall()
    if not counts:
        what = "batches" if statistics_layers(net) else "BN layers that keep statistics"
        raise ValueError(f"there are no {what}, so there are no statistics to recompute")
    return {name: (total / counts[name]).astype("float32") for name, total in moments.items()}


def restore_folded(net: Block, batches: Iterable[mx.nd.NDArray]) -> int:
    """Give BN layers that were folded into the convolutions before them statistics again; return how many there are.

    Weights for inference alone, such as those of TensorFlow Lite, have BN layers that do nothing but add beta: with
    mean 0 and variance 1. A training step, which normalizes by the batch, would turn such a network into another one.
    Here mean and variance become those of `batches`, and gamma and beta what leaves the answers in evaluation as they
    were, but for rounding.

    Args:
        net: All of its layers may have statistics already; then nothing happens.
        batches: Images (N, C, H, W), on the device of the network.
    """
    folded = {layer for layer in statistics_layers(net) if _is_folded(layer)}
    moments: Dict[nn.BatchNorm, List[Tuple[mx.nd.NDArray, mx.nd.NDArray]]] = {layer: [] for layer in folded}

    def add(layer, mean, variance) -> None:
        if layer in folded:
            moments[layer].append((mean, variance))

    with watch_moments(net, add, training=False):
        for batch in batches if folded else ():
            net(batch)
            mx.nd.waitall()
    for layer, found in moments.items():
        means, variances = (mx.nd.stack(*arrays) for arrays in zip(*found))
        mean = means.mean(axis=0)
        # Within the batches and between them.
        variance = variances.mean(axis=0) + mx.nd.square(mx.nd.broadcast_sub(means, mean)).mean(axis=0)
        layer.running_mean.set_data(mean)
        layer.running_var.set_data(variance)
        layer.gamma.set_data(mx.nd.sqrt(variance + layer._kwargs["eps"]))
        layer.beta.set_data(layer.beta.data() + mean)
    return len(folded)


def _is_folded(layer: nn.BatchNorm) -> bool:
    if layer._kwargs["fix_gamma"]:
        return False
    mean, variance, gamma = (p.data().asnumpy() for p in (layer.running_mean, layer.running_var, layer.gamma))
    # A layer that has just been initialized has the variance 1, and divides by a little more.
    divides = abs(variance + layer._kwargs["eps"] - 1).max() > 1e-6
    return not (divides or mean.any() or (gamma != 1).any())


@contextlib.contextmanager
def watch_moments(
    net: Block, add: Callable[[nn.BatchNorm, mx.nd.NDArray, mx.nd.NDArray], None], training: bool = True
) -> Iterator[None]:
    """Within it `net` runs as in training, and calls add(layer, mean, unbiased variance) in each BN layer of a pass.

    Without `training` it runs as in evaluation: each layer has its running statistics.

    The arrays have an entry per channel. Statistics stay as they are. A pass raises ValueError if a layer sees one
    value per channel alone.
    """

    def moments(layer, inputs) -> None:
        add(layer, *_moments(inputs[0], layer._kwargs["axis"]))

    mode = autograd.train_mode if training else autograd.predict_mode
    with _imperative(net), contextlib.ExitStack() as hooks, mode():
        for layer in statistics_layers(net):
            hooks.enter_context(layer.register_forward_pre_hook(moments))
        yield


def statistics_layers(net: Block) -> List[nn.BatchNorm]:
    """The BN layers of a network that keep statistics."""
    blocks = _all_blocks(net)
    return [block for block in blocks if isinstance(block, nn.BatchNorm) and not block._kwargs["use_global_stats"]]


def _all_blocks(net: Block) -> List[Block]:
    blocks: List[Block] = []
    net.apply(blocks.append)
    return blocks


@contextlib.contextmanager
def _imperative(net: Block):
    """Within it the blocks of `net` are called one by one: a hybridized one would pass over the hooks of its parts."""
    blocks = [block for block in _all_blocks(net) if isinstance(block, HybridBlock)]
    active = [block._active for block in blocks]
    # hybridize(False) would throw the compiled graphs away.
    for block in blocks:
        block._active = False
    try:
        yield
    finally:
        for block, was_active in zip(blocks, active):
            block._active = was_active


def _moments(x: mx.nd.NDArray, axis: int) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """Mean and unbiased variance of every channel; `axis` is that of the channels."""
    # Pooling takes averages several times faster than `mean` does on a CPU.
    x = x.astype("float32").swapaxes(1, axis).reshape((0, 0, -1, 1))
    count = x.size // x.shape[1]
    if count == 1:
        raise ValueError("a variance needs more than one value per channel: recompute statistics with larger batches")
    mean = _mean(x)
    variance = _mean(mx.nd.square(mx.nd.broadcast_sub(x, mean))) * (count / (count - 1))
    return mean.reshape((-1,)), variance.reshape((-1,))


def _mean(x: mx.nd.NDArray) -> mx.nd.NDArray:
    """(n, c, m, 1) -> (1, c, 1, 1)."""
    return mx.nd.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg").mean(axis=0, keepdims=True)
