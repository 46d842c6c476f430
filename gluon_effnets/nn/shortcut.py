"""The sum of a branch and its shortcut, in the one arrangement that oneDNN's fused graphs compute rightly."""

from __future__ import annotations

import mxnet as mx

from .layout import plain_layout

__all__ = ["add_shortcut"]


def add_shortcut(F, branch, shortcut):
    """Add a block's shortcut to its branch; in graphs for oneDNN the sum becomes part of a convolution where it can.

    MXNet 1.9.1 fuses a sum into a convolution (or its BN) that one of the operands comes from, and takes for granted
    that this is the first operand. The other way round the fused graph fails when it runs, or is silently wrong.
    So whichever operand ends in a convolution goes first, the branch if both do. A block that writes `y + shortcut`
    itself is right without fusion only.

    Args:
        F: `mx.nd` or `mx.sym`, as `hybrid_forward` gets it.
        branch: Map (N, C, H, W).
        shortcut: Map of the same shape: the input of the block, or a projection of it.

    Returns:
        The sum (N, C, H, W).

    Example:
        >>> def hybrid_forward(self, F, x):
        ...     return add_shortcut(F, self.branch(x), x if self.proj is None else self.proj(x))
    """
    if not isinstance(branch, mx.sym.Symbol):
        return branch + shortcut
    if not _ends_in_convolution(branch):
        return shortcut + branch if _ends_in_convolution(shortcut) else branch + shortcut
    if _is_convolution(shortcut) and shortcut.name in _ancestors(branch):
        # The branch begins with a BN (or another layer that oneDNN would fuse into this very convolution), so that
        # the sum would land in the convolution before the block: the plain layout hides it.
        shortcut = plain_layout(F, shortcut)
    return branch + shortcut


def _ends_in_convolution(symbol: mx.sym.Symbol) -> bool:
    """Whether a result is that of a convolution, with nothing but BN and dropout behind it."""
    while _passes(symbol):
        symbol = symbol.get_children()[0]
    return _is_convolution(symbol)


# MXNet names the operator of a symbol nowhere but in the JSON of its whole graph; these attributes are theirs alone.
def _is_convolution(symbol: mx.sym.Symbol) -> bool:
    return {"num_filter", "kernel"} <= symbol.list_attr().keys()


def _passes(symbol: mx.sym.Symbol) -> bool:
    attrs = symbol.list_attr()
    return "fix_gamma" in attrs or "p" in attrs


def _ancestors(symbol: mx.sym.Symbol) -> set:
    return {node.name for node in symbol.get_internals()}
