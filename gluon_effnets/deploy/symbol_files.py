"""Export to MXNet's deployable form: <prefix>-symbol.json and <prefix>-0000.params, checked by loading them again."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import mxnet as mx
import numpy as np

from ..models import ClassificationNet
from .aligned import aligned
from .graphs import inference_copy, inference_graph

__all__ = ["ExportError", "Exported", "export", "load_exported"]

TOLERANCE = 1e-4  # of the largest logit


class ExportError(RuntimeError):
    """The exported files do not give the network's answers."""


class Exported(NamedTuple):
    """The two files, and the largest difference of their logits from the network's, relative to the largest logit."""

    symbol: Path
    params: Path
    difference: float


def export(net: ClassificationNet, prefix, image_size: int = 224, align: bool = False) -> Exported:
    """Write the files that MXNet loads in any language, load them again and compare.

    The graph takes `data` (N, in_channels, H, W), normalized as in training, and gives logits (N, num_classes), for
    any N and for any H, W that the network takes. `align`: the graph of `aligned(net)`, for ShuffleNets. Raises
    ValueError if there is none, ExportError if the answers differ; then no file is left.
    """
    graph_of = aligned(net) if align else net
    prefix = Path(prefix)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    files = prefix.with_name(f"{prefix.name}-symbol.json"), prefix.with_name(f"{prefix.name}-0000.params")
    temporary = [path.with_name(f".{path.name}") for path in files]
    graph = inference_graph(graph_of)
    auxiliary = set(graph.list_auxiliary_states())
    arrays = {
        f"{'aux' if name in auxiliary else 'arg'}:{name}": param.data().as_in_context(mx.cpu())
        for name, param in graph_of.collect_params().items()
    }
    try:
        graph.save(str(temporary[0]))
        mx.nd.save(str(temporary[1]), arrays)
        difference = _compare(net, temporary, image_size)
        for path, final in zip(temporary, files):
            os.replace(path, final)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    return Exported(*files, difference)


def load_exported(symbol, params) -> mx.gluon.SymbolBlock:
    """Load exported files as a block, in the form that runs fastest: call `optimize_for(x, backend='MKLDNN', ...)`."""
    with warnings.catch_warnings():
        # MXNet cannot know the type of the input, nor need it.
        warnings.filterwarnings("ignore", message="Cannot decide type")
        return mx.gluon.SymbolBlock.imports(str(symbol), ["data"], str(params))


def _compare(net: ClassificationNet, files, image_size: int) -> float:
    shape = (2, net.in_channels, image_size, image_size)
    x = mx.nd.array(np.random.RandomState(0).standard_normal(shape))
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    expected = net(x.as_in_context(ctx))
    if expected.dtype != np.float32:  # with mixed precision, whose rounding is not the files' fault
        expected = inference_copy(net)(x)
    expected = expected.asnumpy()
    seen = load_exported(*files)(x).asnumpy()
    difference = float(np.abs(seen - expected).max() / np.abs(expected).max())
    if not difference < TOLERANCE:
        raise ExportError(f"the exported graph differs from the network by {difference:.1e} of the largest logit")
    return difference
