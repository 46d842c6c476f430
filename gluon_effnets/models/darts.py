"""Networks of cells as DARTS (Liu et al., arXiv 1806.09055) trains them on CIFAR-10, of any genotype.

A cell reads the outputs of the two cells before it. Each of its nodes is the sum of two operations on these or on
earlier nodes; all nodes together are its output. 20 cells, 36 channels at first, strides at a third and at two thirds
of the depth. ReLU stands before convolutions and BN behind them; pooling has no BN in a network that is trained.

MobileNeXt (arXiv 2007.02269) adds the SandGlass block to the operations. Its two cells are known from a picture; their
settings are not. With a bottleneck of a quarter the network has the parameters that the paper's abstract claims,
"25 % fewer": that ratio, and the form of the block (ReLU6, BN behind every convolution, identity without a stride),
are ours.

An auxiliary classifier stands behind the second reduction cell in training (`auxiliary=True`, task `auxiliary`). A
graph for inference does not have it.
"""

from __future__ import annotations

import warnings
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..nn import ConvBN, Dropout, Norm, add_shortcut, concat_channels, make_operation
from ..nn.channels import check_positive
from .cellnet import Cell, CellNet, Place
from .genotype import Edge, Genotype, read_genotype
from .registry import register_model
from .training_graph import CompiledTraining

__all__ = [
    "DARTS_V2",
    "MOBILENEXT_CELLS",
    "DartsNet",
    "FixedCell",
    "cifar_darts_sandglass",
    "cifar_darts_v2",
    "darts_cells",
]

PAPER = "DARTS: Differentiable Architecture Search, arXiv 1806.09055"
MOBILENEXT = "Rethinking Bottleneck Structure for Efficient Mobile Network Design, arXiv 2007.02269"
# Of the map that an auxiliary classifier reads, at least.
AUXILIARY_SIDE = 8


def _edges(*pairs: Tuple[str, int]) -> Tuple[Edge, ...]:
    return tuple(Edge(*pair) for pair in pairs)


DARTS_V2 = Genotype(
    normal=_edges(
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("skip_connect", 0),
        ("dil_conv_3x3", 2),
    ),
    reduce=_edges(
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
        ("max_pool_3x3", 0),
        ("skip_connect", 2),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
    ),
)
MOBILENEXT_CELLS = Genotype(
    normal=_edges(
        ("sandglass_3x3", 1),
        ("sandglass_3x3", 0),
        ("dil_conv_5x5", 2),
        ("sandglass_3x3", 0),
        ("sandglass_3x3", 2),
        ("sandglass_3x3", 3),
        ("sandglass_3x3", 4),
        ("max_pool_3x3", 0),
    ),
    reduce=_edges(
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 2),
        ("sep_conv_5x5", 1),
        ("dil_conv_5x5", 3),
        ("dil_conv_5x5", 2),
        ("dil_conv_5x5", 4),
    ),
)


class FixedCell(Cell):
    """A cell of a genotype: two maps -> the nodes, joined along their channels.

    Args:
        edges: Of the genotype, two for each node.
        sandglass_ratio: Channels to those of the bottleneck of a SandGlass block.
        place: Where it stands.
        norm: How BN layers are made.
    """

    def __init__(self, edges: Tuple[Edge, ...], sandglass_ratio: int, place: Place, norm: Norm, **kwargs):
        super().__init__(place, norm, **kwargs)
        self._sources = [edge.source for edge in edges]
        self._operations: List[Optional[HybridBlock]] = []
        self._drops: List[Dropout] = []
        with self.name_scope():
            for edge in edges:
                stride = 2 if place.reduces and edge.source < 2 else 1
                operation = make_operation(edge.operation, place.channels, stride, norm, sandglass_ratio)
                self._operations.append(operation)
                self._drops.append(Dropout(0.0, axes=(1, 2, 3)))
                self.register_child(self._drops[-1])
                if operation is not None:
                    self.register_child(operation)

    def set_drop_path(self, rate: float) -> None:
        """Let every operation but an identity be dropped with this probability, per sample."""
        for drop in self._drops:
            drop._rate = rate

    def hybrid_forward(self, F, first, second):
        maps = [self.first(first), self.second(second)]
        for node in range(len(self._sources) // 2):
            maps.append(add_shortcut(F, *(self._term(maps, edge) for edge in (2 * node, 2 * node + 1))))
        return concat_channels(F, *maps[2:]) if len(maps) > 3 else maps[2]

    def _term(self, maps: list, edge: int):
        x, operation, drop = maps[self._sources[edge]], self._operations[edge], self._drops[edge]
        if operation is None:
            return x
        x = operation(x)
        return drop(x) if drop._rate else x


class _Auxiliary(HybridBlock):
    """Classifier of the map behind the second reduction cell, 8 x 8 for images of 32 pixels."""

    def __init__(self, in_channels: int, classes: int, norm: Norm, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.layers = nn.HybridSequential()
            self.layers.add(
                nn.Activation("relu"),
                nn.AvgPool2D(5, 3, 0, count_include_pad=False),
                ConvBN(in_channels, 128, act="relu", norm=norm),
                nn.Conv2D(768, 2, use_bias=False, in_channels=128),
                norm(768),
                nn.Activation("relu"),
                nn.GlobalAvgPool2D(),
                nn.Flatten(),
                nn.Dense(classes, in_units=768),
            )

    def hybrid_forward(self, F, x):
        return self.layers(x)


class _WithAuxiliary(CompiledTraining):
    """Images -> the logits of a network and of its auxiliary classifier."""

    def __init__(self, net: DartsNet):
        super().__init__()
        self.net = net

    def hybrid_forward(self, F, x):
        net = self.net
        for stage in net.stages[:-1]:
            x = stage(x)
        (row,) = net.stages[-1]._children.values()
        maps = row.outputs(F, x)
        # The first cell of the last stage is the one that reduces.
        return net.output(net.features[-1](maps[-1])), net.auxiliary(maps[2])


class DartsNet(CellNet):
    """The network of a genotype.

    Args:
        genotype: See `read_genotype`.
        sandglass_ratio: Channels to those of the bottleneck of SandGlass blocks.
        auxiliary: Whether there is an auxiliary classifier, for training by the task `auxiliary`; its parameters are
            not counted.
        options: Those of `CellNet`.

    Raises:
        ValueError: What `read_genotype` and `CellNet` refuse.
    """

    def __init__(
        self,
        genotype: Union[str, Mapping[str, Any], Genotype] = DARTS_V2,
        *,
        sandglass_ratio: int = 4,
        auxiliary: bool = False,
        **options: Any,
    ):
        self._genotype = found = read_genotype(genotype)
        check_positive("sandglass_ratio", sandglass_ratio)

        def make(place: Place, norm: Norm) -> FixedCell:
            return FixedCell(found.reduce if place.reduces else found.normal, sandglass_ratio, place, norm)

        super().__init__(make, found.nodes, **options)
        # A function, so that Gluon does not look for children in what this network is a child of.
        self._view: Optional[Callable[[], _WithAuxiliary]] = None
        with self.name_scope():
            self.auxiliary = self._make_auxiliary() if auxiliary else None

    def _make_auxiliary(self) -> _Auxiliary:
        auxiliary = _Auxiliary(self.num_features, self.num_classes, self.norm)
        # No parameters of the network, and without a gradient where nothing but the network is trained.
        auxiliary.collect_params().setattr("grad_req", "null")
        return auxiliary

    def train_auxiliary(self) -> None:
        """Let the auxiliary classifier have gradients."""
        assert self.auxiliary is not None
        for param in self.auxiliary.collect_params().values():
            param.grad_req = "write" if param._differentiable else "null"

    @property
    def genotype(self) -> Genotype:
        """Its cells."""
        return self._genotype

    def set_drop_path(self, rate: float) -> None:
        """Drop operations of cells with a probability, each for each sample; a hybridized network follows."""

        def change(block) -> None:
            if isinstance(block, FixedCell):
                block.set_drop_path(rate)
            if isinstance(block, HybridBlock):
                block._clear_cached_op()

        self.apply(change)
        if self._view is not None:
            self._view()._clear_cached_op()

    def with_auxiliary(self, x) -> Tuple[Any, Any]:
        """The logits of the network and of its auxiliary classifier, both (N, classes)."""
        if self._view is None:
            view = _WithAuxiliary(self)
            view.hybridize(self._active, **dict(self._flags))
            self._view = lambda: view
        return self._view()(x)

    def reset_class(self, classes: int) -> None:
        """As of all networks; the auxiliary classifier, if there is one, is new, too."""
        super().reset_class(classes)
        if self.auxiliary is not None:
            ctx = self.auxiliary.layers[-1].bias.list_ctx() if self.auxiliary.layers[-1].bias._data else None
            with self.name_scope():
                self.auxiliary = self._make_auxiliary()
            if ctx is not None:
                self.auxiliary.initialize(self.default_initializer(), ctx=ctx)
            self._view = None

    def _build_cache(self, *args):
        with warnings.catch_warnings():
            # Of the auxiliary classifier, which is not part of this graph.
            warnings.filterwarnings("ignore", "Parameter .* is not used by any computation")
            super()._build_cache(*args)


class _AnyCells(DartsNet):
    """A network whose name does not say its cells: its files do."""

    def definition(self) -> Dict[str, Any]:
        return {**super().definition(), "genotype": self.genotype.as_dict()}


@register_model(family="darts", paper=PAPER, input_size=32, classes=10, representative=True)
def cifar_darts_v2(**options) -> DartsNet:
    """The cells that DARTS's second-order search found, 20 of 36 channels: 3.35 M parameters, 528.4 M MAdds."""
    return DartsNet(DARTS_V2, **options)


@register_model(
    family="darts",
    paper=MOBILENEXT,
    input_size=32,
    classes=10,
    reconstruction="the cells are those of the picture; form and ratio of their SandGlass blocks are ours",
)
def cifar_darts_sandglass(**options) -> DartsNet:
    """The cells of MobileNeXt's search with SandGlass, 20 of 36 channels: 2.45 M parameters, 391.0 M MAdds."""
    return DartsNet(MOBILENEXT_CELLS, **options)


@register_model(family="darts", paper=PAPER, input_size=32, classes=10, hidden=True)
def darts_cells(**options) -> DartsNet:
    """Cells of any genotype: model_options.genotype is a file of a search, or its two lists."""
    return _AnyCells(**options)


_TINY = Genotype(
    normal=_edges(
        ("sep_conv_3x3", 0),
        ("sandglass_3x3", 1),
        ("dil_conv_5x5", 2),
        ("skip_connect", 0),
        ("sep_conv_5x5", 1),
        ("dil_conv_3x3", 3),
        ("max_pool_3x3", 2),
        ("avg_pool_3x3", 4),
    ),
    reduce=_edges(
        ("sep_conv_3x3", 0),
        ("sandglass_3x3", 1),
        ("dil_conv_5x5", 0),
        ("skip_connect", 1),
        ("sep_conv_5x5", 0),
        ("dil_conv_3x3", 1),
        ("max_pool_3x3", 0),
        ("avg_pool_3x3", 1),
    ),
)


@register_model(
    family="darts",
    paper=PAPER,
    reconstruction="not of the paper: for tests",
    input_size=32,
    classes=10,
    hidden=True,
    small=True,
)
def darts_tiny(**options) -> DartsNet:
    """Five cells with all operations at both strides: keeps tests short."""
    return DartsNet(_TINY, **{"channels": 12, "layers": 5, **options})
