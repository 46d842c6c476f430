"""SlimmableNet: a network whose stages run at several widths over one set of Parameters."""

from __future__ import annotations

import numbers
from typing import Any, Dict, NamedTuple, Optional, Sequence, Sized, Tuple, Union

import mxnet as mx
from mxnet.gluon import nn

from ..files.text import shortened
from ..nn.gate import SlimmingHead
from ..nn.slimmable import WidthStatistics
from .base import ClassificationNet
from .slimmable_plan import Gating, PlannedNet, Slot, Step, Widths
from .slimmable_views import Views, build_cache_of_part

__all__ = ["DynamicOutput", "Gating", "SlimmableNet", "Slot", "Step", "Widths"]

HEADS = ("shared", "separate")
OUTPUTS = ("one_hot", "ratio")
Path = Union[int, str, Sequence[int]]


class DynamicOutput(NamedTuple):
    """What `SlimmableNet.dynamic` gives for N images, G gates and K candidates.

    Attributes:
        logits: (N, classes).
        gate_logits: (N, G, K), without noise.
        choice: (N, G, K), one-hot with the gradient of the softmax.
        madds: (N,), multiply-adds of the chosen networks, gates included (rule 'conv_fc').
    """

    logits: mx.nd.NDArray
    gate_logits: mx.nd.NDArray
    choice: mx.nd.NDArray
    madds: mx.nd.NDArray


class SlimmableNet(PlannedNet):
    """A network of several widths; its forward is the largest.

    `subnet` gives the others, `dynamic` and `route` use the gates. A subclass makes `features` of ConvBN, units with
    `sliced` and blocks without parameters, then calls `_make_slimmable`.

    Attributes:
        widths: List of Widths of the sub-networks, slimmest first; those that choose the same index everywhere.
        num_widths: Number of indices.
        num_choices: Number of choices that make a path (1 if all stages share theirs).
        gates: HybridSequential of the slimming heads. Their gradients are off (grad_req 'null') until
            `net.gates.collect_params().setattr('grad_req', 'write')`, as nothing but `dynamic` uses them.
        statistics: The BN statistics of the sub-networks where they differ from the largest network's.

    Source: DS-Net, arXiv 2103.13258, section 3.

    Example:
        >>> net = get_model("ds_mobilenet_v1")
        >>> net.initialize()
        >>> net.subnet("smallest")(mx.nd.zeros((1, 3, 224, 224))).shape
        (1, 1000)
    """

    def _make_slimmable(
        self, slots: Sequence[Slot], slot_of: Sequence[Optional[int]], gating: Optional[Gating] = None
    ) -> None:
        """`slot_of`: number of the slot of every block of the stages, None for blocks without parameters."""
        self._set_slots(slots, slot_of, gating)
        self.num_widths = max(len(slot.widths) for slot in slots)
        self.widths = [self.widths_at((i,) * self.num_choices) for i in range(self.num_widths)]
        with self.name_scope():
            self.statistics = WidthStatistics(self, prefix="statistics_")
            self.gates = nn.HybridSequential(prefix="gates_")
            if gating is not None:
                self._make_gates(gating)
        self._views = Views(self)
        for index in range(self.num_widths):
            self.subnet(index)  # which makes its statistics: the Parameters of the network are complete from here on

    def _make_gates(self, gating: Gating) -> None:
        last = gating.first_candidate + gating.num_candidates - 1
        if gating.num_candidates < 2 or gating.first_candidate < 0 or last >= self.num_widths:
            raise ValueError(
                f"candidates {gating.first_candidate} to {last} must be two or more of the {self.num_widths} widths "
                f"0 to {self.num_widths - 1}: change num_candidates or first_candidate"
            )
        if gating.heads not in HEADS:
            raise ValueError(f"gate_heads is {gating.heads!r}; choose one of {', '.join(HEADS)}")
        if gating.output not in OUTPUTS:
            raise ValueError(f"gate_output is {gating.output!r}; choose one of {', '.join(OUTPUTS)}")
        with self.gates.name_scope():
            for step in self.steps():
                if step.gate is not None:
                    if step.block.se is None:
                        raise ValueError(
                            "gates read squeeze-and-excitation: do not switch it off, or build without gates"
                        )
                    reduced = step.block.se.reduce.weight.shape[0]
                    assert step.before is not None, "the stem has no gate"
                    width = self.candidates(step.before)[-1] if gating.heads == "separate" else None
                    self.gates.add(SlimmingHead(reduced, gating.num_candidates, width, gating.output))
        self.gates.collect_params().setattr("grad_req", "null")

    def path(self, which: Path) -> Tuple[int, ...]:
        """Return the index of every choice.

        Args:
            which: An index for all choices, 'smallest', or a path, one index per choice.

        Raises:
            ValueError: For what is none of these, saying the range.
        """
        indices: Tuple[Any, ...]
        if isinstance(which, str):
            indices = (0,) * self.num_choices if which == "smallest" else ()
        else:
            indices = tuple(which) if isinstance(which, Sized) else (which,) * self.num_choices
        right = (isinstance(i, numbers.Integral) and 0 <= int(i) < self.num_widths for i in indices)
        if len(indices) != self.num_choices or not all(right):
            several = f", or {self.num_choices} such numbers" if self.num_choices > 1 else ""
            raise ValueError(
                f"there is no sub-network {shortened(which)}: choose 0 to {self.num_widths - 1}{several}, "
                "'smallest' or 'largest'"
            )
        return tuple(int(i) for i in indices)

    def subnet(self, which: Path) -> ClassificationNet:
        """Return a sub-network: the same object every time, over the Parameters of this network.

        It can be hybridized, trained and evaluated by itself; `hybridize` of this network reaches it, too.

        Args:
            which: An index of `widths`, 'smallest', 'largest' (this network itself), or a path, one index per choice.

        Raises:
            ValueError: For what is none of these.
        """
        return self if isinstance(which, str) and which == "largest" else self._views.subnet(self.path(which))

    def dynamic(self, x: mx.nd.NDArray, noise: Optional[mx.nd.NDArray] = None) -> DynamicOutput:
        """Let the gates choose the width of every image: the masked form of the authors' code, for training gates.

        It costs as much as the widest candidate for every image, and uses running BN statistics in training too.

        Args:
            x: Images (N, in_channels, H, W).
            noise: (N, num_gates, num_candidates), added to the gates' logits; the authors' code adds `gumbel_noise`, in
                evaluation as well. None: without it.

        Raises:
            ValueError: Without gates.
        """
        noise = self._noise(x, noise)
        return DynamicOutput(*self._views.dynamic()(x, noise))

    def route(self, x: mx.nd.NDArray, noise: Optional[mx.nd.NDArray] = None) -> mx.nd.NDArray:
        """Return the paths that the gates choose for images: `subnet(path)` runs one.

        Nothing behind the last gate is computed if the network is hybridized.

        Args:
            x: Images (N, in_channels, H, W).
            noise: As of `dynamic`.

        Returns:
            The paths (N, num_choices), int32.

        Raises:
            ValueError: Without gates.
        """
        noise = self._noise(x, noise)
        choice = self._views.router()(x, noise)
        return choice.argmax(axis=2).astype("int32") + self._gates().first_candidate

    def _gates(self) -> Gating:
        if self.gating is None:
            raise ValueError(f"{self.identity['model']} has no gates; subnet(i) runs one of its widths")
        return self.gating

    def _noise(self, x: mx.nd.NDArray, noise: Optional[mx.nd.NDArray]) -> mx.nd.NDArray:
        shape = (len(x), self.num_choices, self._gates().num_candidates)
        return mx.nd.zeros(shape, ctx=x.context, dtype=x.dtype) if noise is None else noise

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "output" and "_views" in self.__dict__:
            self._views.share_output()

    def hybridize(self, active: bool = True, *args: Any, **kwargs: Any) -> None:
        super().hybridize(active, *args, **kwargs)
        self._views.hybridize(active, *args, **kwargs)

    def definition(self) -> Dict[str, Any]:
        gating = {} if self.gating is None else {"first_candidate": self.gating.first_candidate}
        return {**super().definition(), **gating}

    def _build_cache(self, *args):
        build_cache_of_part(super()._build_cache, *args)
