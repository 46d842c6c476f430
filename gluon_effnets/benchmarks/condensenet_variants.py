"""Variants of a pruned CondenseNet, timed: masked, condensed as the authors do it and as we do, in PyTorch."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ..deploy.aligned.select import aligned, aligned_forms
from ..deploy.to_mxnet.variants import graph_blocks
from ..deploy.to_onnx.files import in_onnx_runtime
from ..models import ClassificationNet, get_model, model_info
from ..models.condense import condense
from ..nn import CondensedConv, CondensedReactivation
from ..nn.init import initialize_like_trained
from ..tables import Table
from ..timing import Speedup, speedup, time_interleaved

__all__ = ["VariantRow", "compare_variants", "variants_table"]


class VariantRow(NamedTuple):
    """Milliseconds for one image, and how many times as fast as the masked network it is.

    `difference`: of the logits from the masked ones, relative to the largest logit.
    """

    model: str
    variant: str
    minimum: float
    median: float
    over_masked: Speedup
    difference: float


def compare_variants(
    name: str,
    image_size: Optional[int] = None,
    repeats: int = 20,
    clock: Callable[[], float] = time.perf_counter,
    with_torch: bool = True,
) -> List[VariantRow]:
    """Time one image through equal weights in every variant, interleaved; in ONNX Runtime and PyTorch, if installed.

    Raises ValueError for a network without masked layers.
    """
    net = get_model(name)
    initialize_like_trained(net)
    size = image_size or model_info(name).input_size
    x = mx.nd.random.normal(shape=(1, net.in_channels, size, size))
    condensed = condense(net)
    blocks: Dict[str, HybridBlock] = _labelled("masked", net, x)
    blocks["condensed, authors' index layer"] = graph_blocks(_with_authors_layers(condense(net)), x)["plain"]
    blocks["condensed"] = graph_blocks(condensed, x)["plain"]
    if aligned_forms(net):
        blocks.update(_labelled("aligned", aligned(condensed), x))
    answers: Dict[str, Callable[[], np.ndarray]] = {
        variant: functools.partial(_answer, block, x) for variant, block in blocks.items()
    }
    if aligned_forms(net):
        with contextlib.suppress(ImportError):
            answers["aligned, ONNX Runtime"] = _in_onnx_runtime(condensed, x)
    if with_torch and aligned_forms(net):
        answers.update(_torch_variants(condensed, x.asnumpy()))
    expected = net(x).asnumpy()
    times = time_interleaved(answers, repeats, clock)
    return [
        VariantRow(
            name,
            variant,
            times[variant].minimum,
            times[variant].median,
            speedup(times[variant].samples, times["masked"].samples),
            float(np.abs(answer() - expected).max() / np.abs(expected).max()),
        )
        for variant, answer in answers.items()
    ]


def _in_onnx_runtime(condensed: ClassificationNet, x: mx.nd.NDArray) -> Callable[[], np.ndarray]:
    return functools.partial(in_onnx_runtime(aligned(condensed, format="onnx"), x), x.asnumpy())


def _answer(block: HybridBlock, x: mx.nd.NDArray) -> np.ndarray:
    return block(x).asnumpy()


def _labelled(variant: str, net: HybridBlock, x: mx.nd.NDArray) -> Dict[str, HybridBlock]:
    kinds = graph_blocks(net, x).items()
    return {variant if kind == "plain" else f"{variant}, {kind}": block for kind, block in kinds}


def _torch_variants(condensed: Any, x: np.ndarray) -> Dict[str, Callable[[], np.ndarray]]:
    try:
        from .torch_reference import torch, with_weights
    except ImportError:
        return {}
    image, calls = torch.from_numpy(x), {}
    forms = {"PyTorch, authors' index layer": True, "PyTorch, scatter-add": False}
    if condensed.plan.update is None:  # nothing is added, so that nobody writes it otherwise
        forms = {"PyTorch": False}
    for variant, authors in forms.items():
        twin = with_weights(condensed, authors)
        calls[variant] = torch.no_grad()(lambda twin=twin: twin(image).numpy())
    return calls


def variants_table(rows: List[VariantRow]) -> Table:
    """The rows as a table."""
    columns = ["model", "variant", ("minimum, ms", ".2f"), ("median, ms", ".2f"), "times as fast as masked"]
    lines = [(*row[:4], None if row.variant == "masked" else str(row.over_masked), row.difference) for row in rows]
    return Table([*columns, ("difference", ".0e")], lines)


class _AuthorsConv(CondensedConv):
    """The selection as the authors' code has it, along the channel axis."""

    def hybrid_forward(self, F, x, index):
        return self.shuffle(self.conv(self.act(self.bn(F.take(x, index, axis=1)))))


class _AuthorsReactivation(CondensedReactivation):
    """The sum as the authors' code has it: a product with a channels x channels matrix of zeros and ones."""

    def make_matrix(self) -> None:
        matrix = self.as_matrix()[:, :, None, None]
        self.matrix = mx.gluon.nn.Conv2D(matrix.shape[0], 1, use_bias=False, in_channels=matrix.shape[1])
        self.matrix.initialize()
        self.matrix.weight.set_data(mx.nd.array(matrix))

    def hybrid_forward(self, F, x, table):
        return self.matrix(self.conv(self.shuffle(self.act(self.bn(x)))))


def _with_authors_layers(net: ClassificationNet) -> ClassificationNet:
    def change(layer):
        if isinstance(layer, CondensedConv):
            layer.__class__ = _AuthorsConv
        elif isinstance(layer, CondensedReactivation):
            layer.__class__ = _AuthorsReactivation
            layer.make_matrix()

    return net.apply(change)
