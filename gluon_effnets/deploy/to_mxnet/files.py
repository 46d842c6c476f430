"""Files for MXNet, <prefix>-symbol.json and <prefix>-0000.params, written and loaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Dict, Tuple

import mxnet as mx

from ...files.write import write_arrays, write_text
from .variants import prepare

__all__ = ["load_exported", "symbol_block", "write_symbol_files"]


def write_symbol_files(symbol: mx.sym.Symbol, arrays: Dict[str, mx.nd.NDArray], prefix: Path) -> Tuple[Path, Path]:
    """Write a graph and its parameters (and statistics), as any language with MXNet loads them."""
    files = prefix.with_name(f"{prefix.name}-symbol.json"), prefix.with_name(f"{prefix.name}-0000.params")
    auxiliary, needed = set(symbol.list_auxiliary_states()), set(symbol.list_inputs())
    write_text(files[0], symbol.tojson())
    named = {f"{'aux' if k in auxiliary else 'arg'}:{k}": array for k, array in arrays.items() if k in needed}
    write_arrays(files[1], named)
    return files


def load_exported(symbol, params) -> mx.gluon.SymbolBlock:
    """Load exported files as a block for MXNet, neither hybridized nor fused.

    Parameters
    ----------
    symbol, params : paths of <prefix>-symbol.json and <prefix>-0000.params.

    Example: `logits = load_exported("net-symbol.json", "net-0000.params")(mx.nd.array(images))`
    """
    with warnings.catch_warnings():
        # MXNet cannot know the type of the input, nor need it.
        warnings.filterwarnings("ignore", message="Cannot decide type")
        return mx.gluon.SymbolBlock.imports(str(symbol), ["data"], str(params))


def symbol_block(symbol: Path, params: Path, variant: str = "plain") -> mx.gluon.SymbolBlock:
    """Load exported files as a block that runs in one of the variants of `prepare`.

    Raises ValueError if they cannot be loaded, or for another variant.
    """
    try:
        block = load_exported(symbol, params)
    # What MXNet raises for files that are cut short, and for those of two different networks.
    except (mx.base.MXNetError, AssertionError, RuntimeError, ValueError):
        raise ValueError(f"{symbol} and {params} are no graph with its parameters, or are cut short") from None
    return prepare(block, variant)
