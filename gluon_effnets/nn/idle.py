"""IdleBlock (arXiv 1911.08609): an MBBlock on a part of the channels, while the others pass untouched."""

from __future__ import annotations

from typing import Sequence

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .channels import ChannelShuffle, concat_channels
from .mbblock import MBBlock

__all__ = ["IdleBlock", "IdleRun"]

SIDES = ("left", "right")


def _split(F, x, at: int):
    return F.slice_axis(x, axis=1, begin=0, end=at), F.slice_axis(x, axis=1, begin=at, end=None)


class IdleBlock(HybridBlock):
    """MBBlock on a part of the channels, while the others are copied: (N, channels, H, W) -> the same shape.

    Args:
        channels: Channels of input and output.
        hidden: Hidden width of the MBBlock that this block stands for, *not* scaled by the active share: of the
            readings of the paper only this one reproduces its costs (docs/idleblock.md).
        kernel: Side of the depthwise kernel.
        side: 'left' (L-IdleBlock): the first channels - idle are active, y = [MB(x_active), x_idle]; 'right'
            (R-IdleBlock): the last ones are, y = [x_idle, MB(x_active)].
        idle_fraction: idle = int(channels * idle_fraction).
        shuffle: Mix the halves afterwards (groups = 2), for the ablation only: idle channels then change places.
        merged_concat: See `concat_channels`.
        block: Further arguments of `MBBlock` (act, se, style, ...). Whether the active branch has a shortcut is not
            said in any text we could reach; it has one here, `residual=False` removes it.

    Raises:
        ValueError: For another side, or a fraction that leaves no channel idle or active.

    Source: Hybrid Composition with IdleBlock, arXiv 1911.08609.

    Example:
        >>> block = IdleBlock(80, hidden=200, side="left")
        >>> block.num_active, block.num_idle
        (40, 40)
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel: int = 3,
        *,
        side: str = "left",
        idle_fraction: float = 0.5,
        shuffle: bool = False,
        merged_concat: bool = True,
        prefix=None,
        params=None,
        **block,
    ):
        super().__init__(prefix=prefix, params=params)
        if side not in SIDES:
            raise ValueError(f"side is {side!r}; choose 'left' or 'right' (the side of the active channels)")
        self.num_idle = int(channels * idle_fraction)
        self.num_active = channels - self.num_idle
        if not 0 < self.num_idle < channels:
            raise ValueError(f"idle_fraction={idle_fraction} leaves {self.num_active} of {channels} channels active")
        self.side = side
        self.split_at = self.num_active if side == "left" else self.num_idle
        self.merged_concat = merged_concat
        with self.name_scope():
            self.active = MBBlock(self.num_active, hidden, self.num_active, kernel, **block)
            self.shuffle = ChannelShuffle(channels, 2) if shuffle else None

    def transform(self, left, right):
        """Apply the block to the two parts of the channels; the idle part is returned as it came.

        Args:
            left: The first channels, (N, split_at, H, W).
            right: The others.
        """
        return (self.active(left), right) if self.side == "left" else (left, self.active(right))

    def hybrid_forward(self, F, x):
        y = concat_channels(F, *self.transform(*_split(F, x, self.split_at)), merged=self.merged_concat)
        return self.shuffle(y) if self.shuffle is not None else y


class IdleRun(nn.HybridSequential):
    """Consecutive IdleBlocks that split at the same channel: (N, C, H, W) -> the same shape.

    Args:
        blocks: The IdleBlocks.
        carry: Whether the two parts go apart through all of them, split and joined once and not per block. The results
            are equal, and so are the names of the parameters.

    Raises:
        ValueError: For blocks that split at different channels, and for carried blocks that shuffle.
    """

    def __init__(self, blocks: Sequence[IdleBlock], carry: bool = True, **kwargs):
        super().__init__(**kwargs)
        if len({block.split_at for block in blocks}) != 1:
            raise ValueError("an IdleRun needs IdleBlocks that split at the same channel")
        if carry and any(block.shuffle is not None for block in blocks):
            raise ValueError("IdleBlocks that shuffle cannot carry their idle part; use carry=False")
        self.carry = carry
        self.add(*blocks)

    def hybrid_forward(self, F, x):
        if not self.carry:
            return super().hybrid_forward(F, x)
        blocks = list(self._children.values())
        left, right = _split(F, x, blocks[0].split_at)
        for block in blocks:
            left, right = block.transform(left, right)
        return concat_channels(F, left, right, merged=blocks[0].merged_concat)
