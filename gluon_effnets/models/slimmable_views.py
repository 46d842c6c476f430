"""The views of a SlimmableNet: its sub-networks, the masked form that gates are trained in, and the router."""

from __future__ import annotations

import warnings
from typing import Any, Callable, Dict, List, Optional, Tuple

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..nn import ConvBN
from ..nn.gate import channel_count, masked_unit
from ..nn.slimmable import SlicedConvBN, SlicedDense, WidthStatistics
from .base import ClassificationNet
from .slimmable_plan import PlannedNet

__all__ = ["DynamicNet", "Router", "SubNet", "Views", "build_cache_of_part"]


def build_cache_of_part(build: Callable, *args) -> None:
    """Call a `_build_cache` without its warning of Parameters that the graph does not use."""
    with warnings.catch_warnings():
        # The Parameters of other widths and of the gates are in no part of this graph, on purpose.
        warnings.filterwarnings("ignore", message=".*is not used by any computation")
        build(*args)


class SubNet(ClassificationNet):
    """A sub-network of a SlimmableNet. Its Parameters, file and class count are those of the whole network.

    Args:
        whole: The slimmable network.
        path: Index of a width for each choice.
    """

    def __init__(self, whole: PlannedNet, path: Tuple[int, ...]):
        super().__init__(whole.num_classes, whole.in_channels)
        # No child: the whole network does not belong to its part.
        object.__setattr__(self, "_whole", whole)
        self.path, self.widths = path, whole.widths_at(path)
        self.stage_info = list(whole.stage_info)
        width = whole.in_channels
        with self.name_scope():
            self.features = nn.HybridSequential()
            for step in whole.steps():
                if step.stage == len(self.features):
                    self.features.add(nn.HybridSequential())
                in_channels, width = width, step.slot.at(path)
                self.features[-1].add(_sliced(step.block, in_channels, width, whole.statistics))
                self.stage_info[step.stage] = self.stage_info[step.stage]._replace(channels=width)
            self.features.add(_head(whole))
            self.num_features = width
            self.share_output(whole)

    @property
    def whole(self) -> PlannedNet:
        """The network that this one is a part of."""
        return self._whole

    @property
    def info(self):
        return self._whole.info

    @property
    def classes(self) -> Optional[List[str]]:
        return self._whole.classes

    @classes.setter
    def classes(self, names: Any) -> None:
        raise ValueError("a sub-network has the classes of its whole network: set those of that")

    @property
    def preprocessing(self):
        return self._whole.preprocessing

    @property
    def in_channels(self):
        return self._whole.in_channels

    def share_output(self, whole: PlannedNet) -> None:
        """Take the classifier of the whole network."""
        self.output = SlicedDense(whole.output, self.num_features)

    def active_shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Return {name of a Parameter: shape of the part of it that this sub-network uses}, without BN statistics."""
        shapes: Dict[str, Tuple[int, ...]] = {}

        def add(block):
            for name, shape in getattr(block, "active", {}).items():
                shapes[block._reg_params[name].name] = shape

        self.apply(add)
        return shapes

    def reset_class(self, classes: int) -> None:
        raise ValueError("a sub-network has the classifier of its whole network: call reset_class of that")

    def save_parameters(self, filename: str, deduplicate: bool = False) -> None:
        raise ValueError("a sub-network has the parameters of its whole network: call save_parameters of that")

    def load_parameters(self, filename, *args, **kwargs) -> None:
        raise ValueError("a sub-network has the parameters of its whole network: call load_parameters of that")


class DynamicNet(HybridBlock):
    """(x, noise) -> the arrays of `DynamicOutput`; see `SlimmableNet.dynamic`."""

    def __init__(self, whole: PlannedNet):
        super().__init__()
        self._in_channels = whole.in_channels
        self._plan: List[tuple] = []  # of every unit: its cost, that of its slimming head, candidate widths, gate
        before: Tuple[int, ...] = (whole.in_channels,)
        with self.name_scope():
            self.units = nn.HybridSequential()
            for step in whole.steps():
                widths = whole.candidates(step.slot)
                head = None if step.gate is None else whole.gates[step.gate]
                if len(before) == len(widths) == 1 or not _has_parameters(step.block):
                    unit = _sliced(step.block, before[-1], widths[-1], whole.statistics, frozen=True)
                else:
                    unit = masked_unit(step.block, before, widths, whole.statistics, head)
                self.units.add(unit)
                self._plan.append((_cost(step.block), head and head.madds, widths, step.gate))
                before = widths
            self.head = _head(whole)
            self.share_output(whole)

    def share_output(self, whole: PlannedNet) -> None:
        """Take the classifier of the whole network."""
        self._num_classes = whole.num_classes
        self.output = SlicedDense(whole.output, self._plan[-1][2][-1])

    def hybrid_forward(self, F, x, noise):
        choice, choices, gate_logits, madds = None, [], [], []
        channels, area = self._in_channels, _area(F, x)
        for unit, (cost, head_cost, widths, gate) in zip(self.units._children.values(), self._plan):
            before, area_before = channels, area
            if cost is None or (choice is None and gate is None):
                x = unit(x)
            elif gate is None:
                x = unit(x, choice, None)
            else:
                of_gate = F.reshape(F.slice_axis(noise, axis=1, begin=gate, end=gate + 1), (0, -1))
                x, choice, logits = unit(x, choice, of_gate)
                choices.append(choice)
                gate_logits.append(logits)
                # As a sum with the area's shape: a shared head costs the same whatever the width.
                madds.append(F.zeros_like(area) + head_cost(before))
            channels = widths[0] if choice is None else channel_count(F, choice, widths)
            area = _area(F, x)
            if cost is not None:
                madds.append(cost(area_before, area, before, channels))
        madds.append(F.zeros_like(area) + channels * self._num_classes)
        return (
            self.output(self.head(x)),
            F.stack(*gate_logits, axis=1),
            F.stack(*choices, axis=1),
            F.reshape(F.add_n(*madds), (-1,)),
        )


class Router(HybridBlock):
    """(x, noise) -> the choices of a DynamicNet (N, G, K); its graph ends behind the last gate."""

    def __init__(self, dynamic: DynamicNet):
        super().__init__()
        self.dynamic = dynamic

    def hybrid_forward(self, F, x, noise):
        return self.dynamic(x, noise)[2]

    def _build_cache(self, *args):
        build_cache_of_part(super()._build_cache, *args)


class Views:
    """The views of a network, made when they are first asked for, hybridized as the network is."""

    def __init__(self, whole: PlannedNet):
        self._whole = whole
        self._made: Dict[Any, HybridBlock] = {}
        self._hybridized: Optional[Tuple[tuple, dict]] = None

    def subnet(self, path: Tuple[int, ...]) -> SubNet:
        return self._get(path, lambda: SubNet(self._whole, path))

    def dynamic(self) -> DynamicNet:
        return self._get("dynamic", lambda: DynamicNet(self._whole))

    def router(self) -> Router:
        return self._get("router", lambda: Router(self.dynamic()))

    def _get(self, key, make) -> HybridBlock:
        if key not in self._made:
            self._made[key] = make()
            if self._hybridized is not None:
                self._made[key].hybridize(*self._hybridized[0], **self._hybridized[1])
        return self._made[key]

    def share_output(self) -> None:
        """Give the classifier of the network to all views that have one."""
        for view in self._made.values():
            if isinstance(view, (SubNet, DynamicNet)):
                view.share_output(self._whole)

    def hybridize(self, *args: Any, **kwargs: Any) -> None:
        self._hybridized = args, kwargs
        for view in self._made.values():
            view.hybridize(*args, **kwargs)


def _has_parameters(block: HybridBlock) -> bool:
    return bool(block.collect_params().keys())


def _sliced(block: HybridBlock, in_channels: int, channels: int, statistics: WidthStatistics, frozen: bool = False):
    """The view of a block of a stage; a block without Parameters is its own view."""
    if not _has_parameters(block):
        return block
    if isinstance(block, ConvBN):
        return SlicedConvBN(block, in_channels, channels, statistics, frozen)
    return block.sliced(in_channels, channels, statistics, frozen)


def _cost(block: HybridBlock):
    """The function (areas and widths of input and output) -> multiply-adds of a block; None without Parameters."""
    if isinstance(block, ConvBN):
        return lambda area_in, area, in_channels, channels: area * (block._kernel**2 * in_channels * channels)
    return getattr(block, "madds", None)


def _head(whole: PlannedNet) -> nn.HybridSequential:
    """The head without dropout, which the authors' code has for the largest network alone."""
    head = nn.HybridSequential()
    head.add(*(block for block in whole.features[-1]._children.values() if not isinstance(block, nn.Dropout)))
    return head


def _area(F, x):
    """Number of positions of a map (N, C, H, W), as (N, 1): what a symbol's shape cannot say in numbers."""
    # MXNet's imperative backward crashes in layers that nothing but the zeros of BlockGrad come back to.
    x = x.detach() if isinstance(x, mx.nd.NDArray) else F.BlockGrad(x)
    return F.sum(F.ones_like(F.slice_axis(x, axis=1, begin=0, end=1)), axis=(2, 3))
