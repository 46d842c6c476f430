"""MXNet's deployable form: <prefix>-symbol.json and <prefix>-0000.params, written and loaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Callable, Dict, Tuple

import mxnet as mx
import numpy as np

__all__ = ["fusion_is_available", "load_exported", "symbol_runner", "write_symbol_files"]


def write_symbol_files(graph: mx.sym.Symbol, arrays: Dict[str, mx.nd.NDArray], prefix: Path) -> Tuple[Path, Path]:
    """Write a graph and its parameters (and statistics), as any language with MXNet loads them."""
    files = prefix.with_name(f"{prefix.name}-symbol.json"), prefix.with_name(f"{prefix.name}-0000.params")
    auxiliary, needed = set(graph.list_auxiliary_states()), set(graph.list_inputs())
    graph.save(str(files[0]))
    named = {f"{'aux' if k in auxiliary else 'arg'}:{k}": array for k, array in arrays.items() if k in needed}
    mx.nd.save(str(files[1]), named)
    return files


def load_exported(symbol, params) -> mx.gluon.SymbolBlock:
    """Load exported files as a block, neither hybridized nor fused."""
    with warnings.catch_warnings():
        # MXNet cannot know the type of the input, nor need it.
        warnings.filterwarnings("ignore", message="Cannot decide type")
        return mx.gluon.SymbolBlock.imports(str(symbol), ["data"], str(params))


def fusion_is_available() -> bool:
    """Whether this MXNet was built with oneDNN."""
    return mx.runtime.Features().is_enabled("MKLDNN")


def symbol_runner(symbol: Path, params: Path, fused: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function (N, C, H, W) -> logits of exported files. Raises ValueError if they cannot be loaded.

    `fused`: with convolution, activation and sum as one operator of oneDNN, where this MXNet has it.
    """
    try:
        block = load_exported(symbol, params)
    # What MXNet raises for files that are cut short, and for those of two different networks.
    except (mx.base.MXNetError, AssertionError, RuntimeError, ValueError):
        raise ValueError(f"{symbol} and {params} are no graph with its parameters, or are cut short") from None
    backend = "MKLDNN" if fused and fusion_is_available() else None
    block.hybridize(backend=backend, static_alloc=True, static_shape=True)
    return lambda x: block(mx.nd.array(x)).asnumpy()
