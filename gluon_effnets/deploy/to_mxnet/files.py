"""Files for MXNet, <prefix>-symbol.json and <prefix>-0000.params, written and loaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence, Tuple

import mxnet as mx

from ...files.params_header import load_arrays
from ...files.regular import UnreadableFileError
from ...files.symbol_file import check_memory, load_symbol
from ...files.write import write_arrays, write_text
from ..compiled.run import compiled_where_right
from ..graph.inference import network_graph
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


def load_exported(symbol, params, trust: bool = False, inner: Sequence[str] = ()) -> mx.gluon.SymbolBlock:
    """Load exported files as a block for MXNet, neither hybridized nor fused.

    Args:
        symbol, params: Paths of <prefix>-symbol.json and <prefix>-0000.params.
        trust: Whether operators are allowed that no network of this package has; some run code.
        inner: Names of operators within the graph whose results are returned behind its outputs.

    Raises FileNotFoundError, or ValueError for files that are damaged or not allowed.

    Example: `logits = load_exported("net-symbol.json", "net-0000.params")(mx.nd.array(images))`
    """
    with warnings.catch_warnings():
        # MXNet cannot know the type of the input, nor need it.
        warnings.filterwarnings("ignore", message="Cannot decide type")
        # As SymbolBlock.imports does, which reads what is not checked.
        graph = load_symbol(symbol, trust)
        if inner:
            parts = graph.get_internals()
            graph = mx.sym.Group([*graph, *(parts[f"{name}_output"] for name in inner)])
        block = mx.gluon.SymbolBlock(graph, mx.sym.var("data"))
        block.collect_params().load_dict(load_arrays(params), cast_dtype=True, dtype_source="saved")
    return block


def symbol_block(
    symbol: Path,
    params: Path,
    variant: str = "plain",
    trust: bool = False,
    image: Optional[Tuple[int, int, int]] = None,
    inner: Sequence[str] = (),
    compiled: bool = False,
) -> Callable:
    """Load exported files as a block that runs in one of the variants of `prepare`.

    Args:
        symbol, params, trust, inner: As of `load_exported`.
        image: Shape of one image, for which the graph must fit into memory; None: it is not looked at.
        compiled: Whether the compiled operator of whole networks runs it, where it is there and gives the same answers;
            then this is a function.

    Raises FileNotFoundError, or ValueError if they cannot be loaded, or for another variant.
    """
    try:
        block = load_exported(symbol, params, trust, inner)
        if image is not None:
            outputs = block(mx.sym.var("data"))
            check_memory(mx.sym.Group(outputs) if isinstance(outputs, list) else outputs, symbol, image)
    except UnreadableFileError:
        raise
    # What MXNet raises for files of two different networks.
    except (mx.base.MXNetError, AssertionError, RuntimeError, ValueError):
        raise ValueError(f"{symbol} and {params} are no graph with its parameters, or are cut short") from None
    graph = network_graph(block) if compiled else None
    prepared = prepare(block, variant)
    return prepared if graph is None else compiled_where_right(graph, prepared)
