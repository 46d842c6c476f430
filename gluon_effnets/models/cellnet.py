"""CellNet: the frame of networks that are a stem and cells, each of which reads the outputs of the two before it."""

from __future__ import annotations

from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..nn import ConvBN, Dropout, Norm, concat_channels
from ..nn.cell_operations import FactorizedReduce, relu_conv_bn
from ..nn.channels import check_positive
from .base import StageInfo
from .normalized import NormalizedNet

__all__ = ["Cell", "CellNet", "CellRow", "Place", "reduction_cells"]

_LEAST_LAYERS = 5


class Place(NamedTuple):
    """Where a cell stands: the channels of its two inputs and of its nodes, and which cells halve the resolution."""

    inputs: Tuple[int, int]
    channels: int
    reduces: bool
    reduces_before: bool


def reduction_cells(layers: int) -> Tuple[int, int]:
    """The numbers of the two cells that halve the resolution, from 0."""
    return layers // 3, 2 * layers // 3


class Cell(HybridBlock):
    """What all cells share: their inputs are brought to the channels and the resolution of the cell."""

    def __init__(self, place: Place, norm: Norm, **kwargs):
        super().__init__(**kwargs)
        self.reduces = place.reduces
        with self.name_scope():
            first = FactorizedReduce if place.reduces_before else relu_conv_bn
            self.first = first(place.inputs[0], place.channels, norm)
            self.second = relu_conv_bn(place.inputs[1], place.channels, norm)


class CellRow(HybridBlock):
    """The cells between two strides, as one block.

    A cell reads two maps. So that stages follow one another as those of all networks do, a stage gives the outputs of
    its last two cells joined along their channels, and the next one takes them apart again.

    Args:
        cells: In order; `cell(map, map, *weights)`.
        split: Channels of the first of two maps in the input; None: the input is both of them.
        joins: Whether another stage follows.
    """

    def __init__(self, cells: List[Cell], split: Optional[int], joins: bool, **kwargs):
        super().__init__(**kwargs)
        self._split, self._joins = split, joins
        self.cells = nn.HybridSequential(prefix="")
        self.cells.add(*cells)

    def outputs(self, F, x, *weights) -> list:
        """The two maps that the first cell reads, and the outputs of all cells."""
        maps = [x, x]
        if self._split is not None:
            split = self._split
            parts = ((0, split), (split, None))
            maps = [F.slice_axis(x, axis=1, begin=begin, end=end) for begin, end in parts]
        for cell in self.cells._children.values():
            maps.append(cell(maps[-2], maps[-1], *(part[cell.reduces] for part in weights)))
        return maps

    def hybrid_forward(self, F, x, *weights):
        maps = self.outputs(F, x, *([weights] if weights else []))
        return concat_channels(F, maps[-2], maps[-1]) if self._joins else maps[-1]


class CellNet(NormalizedNet):
    """(N, in_channels, H, W) -> (N, classes): stem, cells, global pooling, classifier, as DARTS has it for CIFAR.

    The cells at a third and at two thirds of the depth halve the resolution and double the channels.

    Args:
        make_cell: (place, norm) -> cell.
        nodes: Of a cell; its output has nodes times the channels of its place.
        classes: Number of classes.
        in_channels: Channels of the images.
        channels: Of the nodes of the first cell, an even number; the stem has three times as many.
        layers: Number of cells, at least 5: then two cells stand between the strides.
        dropout: Probability before the classifier.
        stem_stride: 1, as the networks are for images of about 32 pixels.
        options: Those of `NormalizedNet`.

    Raises:
        ValueError: Fewer cells, or another number of channels.

    Source: DARTS, arXiv 1806.09055, `model.py` of its repository.
    """

    def __init__(
        self,
        make_cell: Callable[[Place, Norm], Cell],
        nodes: int,
        classes: int = 10,
        in_channels: int = 3,
        *,
        channels: int = 36,
        layers: int = 20,
        dropout: float = 0.0,
        stem_stride: int = 1,
        **options: Any,
    ):
        super().__init__(classes, in_channels, stem_stride=stem_stride, **options)
        check_positive("channels", channels)
        check_positive("layers", layers)
        if channels % 2:
            raise ValueError(f"channels is {channels}; it must be an even number")
        if layers < _LEAST_LAYERS:
            raise ValueError(f"layers is {layers}; a network of cells has at least {_LEAST_LAYERS}")
        stem, self.layers, self.channels = 3 * channels, layers, channels
        widths, reduces_before, reductions = [stem, stem], False, reduction_cells(layers)
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.stage_info: List[StageInfo] = []
            cells: List[Cell] = []
            split = None
            for number in range(layers):
                reduces = number in reductions
                if reduces:
                    split = self._add_row(cells, widths, split, stem if number == reductions[0] else None)
                    cells, channels = [], 2 * channels
                cells.append(make_cell(Place((widths[-2], widths[-1]), channels, reduces, reduces_before), self.norm))
                widths.append(nodes * channels)
                reduces_before = reduces
            self._add_row(cells, widths, split, None, is_last=True)
            head = nn.HybridSequential()
            head.add(nn.GlobalAvgPool2D(), nn.Flatten())
            if dropout:
                head.add(Dropout(dropout))
            self.features.add(head)
            self.num_features = widths[-1]
            self._make_output()

    def _add_row(self, cells: List[Cell], widths: List[int], split, stem: Optional[int], is_last: bool = False) -> int:
        """Add a stage of these cells; return the channels of the first of the two maps that it gives."""
        stage = nn.HybridSequential()
        if stem is not None:
            stage.add(ConvBN(self.in_channels, stem, 3, stride=self.stem_stride, norm=self.norm))
        stage.add(CellRow(cells, split, joins=not is_last))
        self.features.add(stage)
        stride = self.stage_info[-1].stride * 2 if self.stage_info else self.stem_stride
        self.stage_info.append(StageInfo(widths[-1] + (0 if is_last else widths[-2]), stride))
        return widths[-2]
