"""IdlePaths: all placements of IdleBlocks in one MBNet, as paths over its Parameters (a one-shot network).

What training, scoring and proxies share: an MBBlock and the IdleBlocks that can stand in its place have the same
weights (`gluon_effnets.nn.idle_view`), and appended IdleBlocks can be left out. The network itself is an ordinary one,
whose files and checkpoints know nothing of paths.
"""

from __future__ import annotations

import itertools
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import Block, HybridBlock

from ..nn import IdleRun
from ..nn.idle_view import idle_view
from .idle import replaceable
from .mbnet import MBNet
from .training_graph import CompiledTraining

__all__ = ["FORMS", "IdlePaths", "PathNet"]

# Of a block: as it is in the network, an L- or an R-IdleBlock, left out.
FORMS = ("own", "left", "right", "out")

Path = Tuple[str, ...]


class _Segment(CompiledTraining):
    """Blocks that run one after the other as one graph."""

    def __init__(self, blocks: Sequence[HybridBlock]):
        super().__init__()
        self.blocks = nn.HybridSequential()
        self.blocks.add(*blocks)

    def hybrid_forward(self, F, x):
        return self.blocks(x)


class PathNet(Block):
    """One path: (N, in_channels, H, W) -> (N, classes).

    It is a chain of graphs, each made once for all paths: a graph per path would be made anew in nearly every update.
    """

    def __init__(self, segments: Sequence[HybridBlock], num_classes: int):
        super().__init__()
        self.num_classes = num_classes
        for segment in segments:
            self.register_child(segment)

    def forward(self, x):
        for segment in self._children.values():
            x = segment(x)
        return x


class IdlePaths:
    """The paths of a network, made when they are first asked for.

    Args:
        net: MobileNetV3, EfficientNet-B0 or a composition of them, initialized.
        sides: Which IdleBlocks may stand for a replaceable MBBlock: ('left',), ('right',) or both.
        idle_fraction: Share of idle channels.

    Raises:
        ValueError: Another network, or one without a choice.

    Example:
        >>> paths = IdlePaths(net)
        >>> paths.net_of(("own", "own", "left", *("own",) * 12))(images)
    """

    def __init__(self, net: MBNet, sides: Sequence[str] = ("left",), idle_fraction: float = 0.5):
        if not isinstance(net, MBNet):
            name = net.identity["model"] if hasattr(net, "identity") else type(net).__name__
            raise ValueError(f"{name} has no blocks that IdleBlocks can replace: take mobilenet_v3_large, "
                             "mobilenet_v3_small or efficientnet_b0")  # fmt: skip
        self.net, self._fraction = net, idle_fraction
        self.blocks = list(_blocks(net))
        can_be_idle = set(replaceable(net.arch))
        self.forms: List[Tuple[str, ...]] = [
            ("own", "out") if row.idle else ("own", *sides) if number in can_be_idle else ("own",)
            for number, row in enumerate(net.arch.rows, 1)
        ]
        if all(len(forms) == 1 for forms in self.forms):
            raise ValueError(f"{net.identity['model']} has no block that an IdleBlock can replace")
        self._segments: Dict[Any, _Segment] = {}
        self._paths: Dict[Path, PathNet] = {}

    def path_of(self, placement: Dict[int, str]) -> Path:
        """Return the path with these forms of blocks, by their numbers from 1; all others as they are.

        Raises:
            ValueError: A block cannot have that form.
        """
        for number, form in placement.items():
            if not 1 <= number <= len(self.forms) or form not in self.forms[number - 1]:
                raise ValueError(f"block {number} cannot be {form!r}; the forms of blocks are {self.forms}")
        return tuple(placement.get(number, "own") for number in range(1, len(self.forms) + 1))

    def whole(self) -> Path:
        """The path of the network itself."""
        return ("own",) * len(self.forms)

    def smallest(self) -> Path:
        """The path with an IdleBlock wherever one can stand, and without those that can be left out."""
        return tuple(forms[-1] if "out" in forms else forms[min(1, len(forms) - 1)] for forms in self.forms)

    def sample(self, random: np.random.RandomState) -> Path:
        """Draw a path: each block takes each of its forms alike; of appended blocks in a row, each number alike."""
        path: List[str] = []
        for optional, group in itertools.groupby(self.forms, key=lambda forms: "out" in forms):
            choices = list(group)
            if optional:
                kept = random.randint(len(choices) + 1)
                path += ["own"] * kept + ["out"] * (len(choices) - kept)
            else:
                path += [forms[random.randint(len(forms))] for forms in choices]
        return tuple(path)

    def net_of(self, path: Path) -> PathNet:
        """Return the network of a path."""
        if path not in self._paths:
            parts: List[_Segment] = []
            fixed: List[int] = []
            for place, form in enumerate(path):
                if len(self.forms[place]) == 1:
                    fixed.append(place)
                    continue
                parts += self._fixed(fixed, first=not parts)
                fixed = []
                if form != "out":
                    parts.append(self._segment((place, form), lambda p=place, f=form: [self._form(p, f)]))
            parts += self._fixed(fixed, first=not parts)
            head = [self.net.features[-1], self.net.output]
            parts.append(self._segment("head", lambda: head))
            self._paths[path] = PathNet(parts, self.net.num_classes)
        return self._paths[path]

    def unused(self, path: Path) -> List[Any]:
        """The Parameters of blocks that a path leaves out."""
        left_out = (self.blocks[place] for place, form in enumerate(path) if form == "out")
        return [param for block in left_out for param in block.collect_params().values()]

    def _fixed(self, places: Sequence[int], first: bool) -> List[_Segment]:
        stem = [self.net.stages[0][0]] if first else []
        if not (places or stem):
            return []
        blocks = [*stem, *(self.blocks[place] for place in places)]
        return [self._segment(("fixed", first, tuple(places)), lambda: blocks)]

    def _segment(self, key: Any, blocks) -> _Segment:
        if key not in self._segments:
            self._segments[key] = segment = _Segment(blocks())
            segment.hybridize()
        return self._segments[key]

    def _form(self, place: int, form: str) -> HybridBlock:
        if form == "own":
            return self.blocks[place]
        arch, row = self.net.arch, self.net.arch.rows[place]
        active = row.out - int(row.out * self._fraction)
        se = max(1, active // 4) if row.se and arch.se_of_input else row.se
        options: Dict[str, Any] = {"idle_fraction": self._fraction, "se": se, "residual": arch.idle_residual}
        return idle_view(self.blocks[place], row.out, form, **options)


def _blocks(net: MBNet):
    """The blocks behind the stem, each IdleBlock for itself."""
    for number, stage in enumerate(net.stages):
        for block in list(stage._children.values())[1 if number == 0 else 0 :]:
            yield from block._children.values() if isinstance(block, IdleRun) else (block,)
