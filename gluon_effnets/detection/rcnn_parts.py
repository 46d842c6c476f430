"""The parts of Faster R-CNN: what proposes regions, what reads them, and how detections are chosen among these."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..models import ClassificationNet
from ..models.taps import Tap
from ..models.training_graph import CompiledTraining
from ..nn import FeaturePyramid
from ..runtime.detections import Choice
from .anchors import GridLevel, anchor_boxes, pyramid_levels
from .backbone import Backbone
from .boxes import PLAIN, VARIANCES, LevelDetections, Selection, best_rows, decode
from .detector import Predictor
from .heads import by_anchor, reorder
from .rcnn_targets import Sampling

__all__ = [
    "C4",
    "FPN",
    "FasterRCNNPredictor",
    "RCNNForm",
    "RegionDetections",
    "canonical_areas",
    "proposal_selection",
    "rpn_levels",
]

GROWTH = 1000 / 16
LEAST = 1e-2  # side of a region, in pixels
# Least side of a region that reads the second map of a pyramid, and so on by doubling (FPN, section 4.2).
CANONICAL = 112


class RCNNForm(NamedTuple):
    """The numbers of a Faster R-CNN.

    Attributes:
        taps: Of the network, finest first.
        strides: Of the maps that propose.
        scales: Sides of the square anchors, in strides.
        regions: Positions per side of a region.
        pyramid: Channels of the feature pyramid; None: a single map, and the network's last stages are the box head.
        hidden: Width of the box head's two dense layers, of a pyramid.
        rpn_channels: Of the convolution that proposes.
        proposals, training_proposals: Boxes of a map among which overlaps are looked for, and how many are left of an
            image.
        anchors_drawn, regions_drawn: What is learned from, of an image.
        beta, region_beta: Of the smooth L1 of anchors and of regions, see `smooth_l1`.
        inside: Whether anchors that reach over the border learn nothing.
        sample_ratio, aligned: Of `ROIAlign`: samples per position and side, -1 for as many as there are pixels; and
            whether pixels have their centers at halves.
        selection: How detections are chosen.
    """

    taps: Tuple[Tap, ...]
    strides: Tuple[int, ...]
    scales: Tuple[float, ...]
    regions: int
    pyramid: Optional[int]
    hidden: int
    rpn_channels: int
    proposals: Tuple[int, int]
    training_proposals: Tuple[int, int]
    anchors_drawn: Sampling
    regions_drawn: Sampling
    beta: float
    region_beta: float
    inside: bool
    sample_ratio: int
    aligned: bool
    selection: Selection


C4 = RCNNForm(
    taps=(3,),
    strides=(16,),
    scales=(8, 16, 32),
    regions=14,
    pyramid=None,
    hidden=0,
    rpn_channels=512,
    proposals=(6000, 300),
    training_proposals=(12000, 2000),
    anchors_drawn=Sampling(256, 0.5),
    regions_drawn=Sampling(128, 0.25),
    beta=1 / 9,
    region_beta=1.0,
    inside=True,
    sample_ratio=2,
    aligned=False,
    selection=Selection(0.05, 0.3, inside=True, largest_growth=GROWTH),
)
FPN = RCNNForm(
    taps=(1, 2, 3, 4),
    strides=(4, 8, 16, 32, 64),
    scales=(8,),
    regions=7,
    pyramid=256,
    hidden=1024,
    rpn_channels=256,
    proposals=(1000, 1000),
    training_proposals=(2000, 1000),
    anchors_drawn=Sampling(256, 0.5),
    regions_drawn=Sampling(512, 0.25),
    beta=0.0,
    region_beta=0.0,
    inside=False,
    sample_ratio=-1,
    aligned=True,
    selection=Selection(0.05, 0.5, inside=True, largest_growth=GROWTH),
)


def rpn_levels(form: RCNNForm, image_size: int, sides: Sequence[int]) -> Sequence[GridLevel]:
    """Return the anchors of all maps, whose sides in positions are given.

    A single map has those of py-faster-rcnn: around the middle of each position, their sides rounded before they are
    multiplied.
    """
    if form.pyramid:
        return pyramid_levels(image_size, form.strides, form.scales)
    stride, boxes = form.strides[0], []
    for ratio in (0.5, 1, 2):
        width = round(stride / ratio**0.5)
        height = round(width * ratio)
        boxes += [(width * scale / image_size, height * scale / image_size) for scale in form.scales]
    return [GridLevel(sides[0], stride / image_size, tuple(boxes), 0.5)]


def _dense(units: int, in_units: int, deviation: float = 0.01, **settings) -> nn.Dense:
    return nn.Dense(units, in_units=in_units, weight_initializer=mx.init.Normal(deviation), **settings)


class _Proposing(CompiledTraining):
    """Images -> logits (N, P, 2) of the anchors, the first of them 0, their offsets (N, P, 4), and the maps."""

    def __init__(self, net: ClassificationNet, form: RCNNForm, image_size: int, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.backbone = Backbone(net, form.taps)
            *shapes, _ = self.backbone.map_shapes(image_size)
            self.pyramid = FeaturePyramid([width for width, _ in shapes], form.pyramid) if form.pyramid else None
            self.channels = form.pyramid or shapes[0][0]
            self.sides = [side for _, side in shapes] + ([(shapes[-1][1] + 1) // 2] if form.pyramid else [])
            boxes, init = 3 * len(form.scales), mx.init.Normal(0.01)
            settings = {"in_channels": form.rpn_channels, "weight_initializer": init}
            self.conv = nn.Conv2D(
                form.rpn_channels, 3, 1, 1, activation="relu", in_channels=self.channels, weight_initializer=init
            )
            self.objectness = nn.Conv2D(boxes, 1, **settings)
            self.offsets = nn.Conv2D(4 * boxes, 1, **settings)

    def hybrid_forward(self, F, x):
        *maps, _ = self.backbone(x)
        levels = maps
        if self.pyramid is not None:
            maps = self.pyramid(*maps)
            levels = [*maps, F.Pooling(maps[-1], kernel=(1, 1), stride=(2, 2), pool_type="max")]
        hidden = [self.conv(level) for level in levels]

        def joined(layer, values: int):
            return F.concat(*(by_anchor(F, layer(y), values) for y in hidden), dim=1)

        logits = joined(self.objectness, 1)
        return (F.concat(F.zeros_like(logits), logits, dim=2), joined(self.offsets, 4), *maps)


class _Regions(CompiledTraining):
    """Regions (N, R, 4) in shares of the image, and the maps -> logits (N, R, classes + 1), offsets (N, R, 4 classes).

    Each region has its own box for every class.
    """

    def __init__(self, net: ClassificationNet, form: RCNNForm, channels: int, classes: int, image_size: int, **kwargs):
        super().__init__(**kwargs)
        self._form, self._image_size = form, image_size
        with self.name_scope():
            self.head = nn.HybridSequential()
            if form.pyramid:
                width = channels * form.regions**2
                self.head.add(nn.Flatten(), nn.Dense(form.hidden, "relu", in_units=width))
                self.head.add(nn.Dense(form.hidden, "relu", in_units=form.hidden))
                self._width = form.hidden
            else:
                self.head.add(*net.stages[int(form.taps[0]) + 1 :], nn.GlobalAvgPool2D(), nn.Flatten())
                self._width = net.stage_info[-1].channels
        self.set_classes(classes)

    def set_classes(self, classes: int) -> None:
        """Make new last layers, for another number of classes."""
        with self.name_scope():
            self.classes = _dense(classes + 1, self._width)
            self.offsets = _dense(4 * classes, self._width, 0.001)

    def hybrid_forward(self, F, regions, *maps):
        return self.answers(self.pooled(F, *self.rows(F, regions), maps), regions)

    def rows(self, F, regions):
        """Return the numbers of images (N * R, 1), and corners (N * R, 4) in pixels, of regions (N, R, 4)."""
        image = F.reshape(F.contrib.arange_like(regions, axis=0), (-1, 1, 1))
        image = F.broadcast_like(image, F.slice_axis(regions, axis=2, begin=0, end=1))
        corners = F.reshape(regions * self._image_size, shape=(-3, 0))
        first, last = (F.slice_axis(corners, axis=1, begin=begin, end=begin + 2) for begin in (0, 2))
        # ROIAlign ends the process at a region without area, such as a place without a proposal, and at one of NaN.
        corners = F.concat(first, F.maximum(last, first + LEAST), dim=1)
        corners = F.where(F.broadcast_equal(corners, corners), corners, F.ones_like(corners))
        return F.reshape(image, shape=(-3, 0)), corners

    def answers(self, pooled, regions):
        """Return logits (N, R, classes + 1) and offsets (N, R, 4 classes) of what was pooled of regions (N, R, 4)."""
        F = mx.sym if isinstance(regions, mx.sym.Symbol) else mx.nd
        features, shape = self.head(pooled), {"lhs_begin": 0, "lhs_end": 1, "rhs_begin": 0, "rhs_end": 2}
        return tuple(F.reshape_like(layer(features), regions, **shape) for layer in (self.classes, self.offsets))

    def pooled(self, F, image, corners, maps):
        """Return maps of regions (N * R, channels, regions, regions), each from the map that fits its size."""
        form = self._form
        side = (form.regions, form.regions)
        settings = {"pooled_size": side, "sample_ratio": form.sample_ratio, "aligned": form.aligned}
        if len(maps) == 1:
            return F.contrib.ROIAlign(
                maps[0], F.concat(image, corners, dim=1), spatial_scale=1 / form.strides[0], **settings
            )
        first, last = (F.slice_axis(corners, axis=1, begin=begin, end=begin + 2) for begin in (0, 2))
        area = F.prod(last - first, axis=1, keepdims=True)
        found = []
        ends = (0, *canonical_areas(len(maps)), None)
        for x, stride, least, most in zip(maps, form.strides, ends, ends[1:]):
            fits = (area >= least) * (area >= 0 if most is None else area < most)
            # Of others a point is read, and left out. ROIAlign knows image number -1, too, but then it writes a zero
            # into what it has made of another region.
            begin = F.broadcast_mul(first, fits)
            rows = F.concat(image, begin, F.maximum(F.broadcast_mul(last, fits), begin + LEAST), dim=1)
            aligned = F.contrib.ROIAlign(x, rows, spatial_scale=1 / stride, **settings)
            found.append(F.where(F.reshape(fits, (-1,)), aligned, F.zeros_like(aligned)))
        return F.add_n(*found)


def canonical_areas(maps: int) -> Tuple[float, ...]:
    """Return the areas of regions, in square pixels, from which on they read the second of several maps, and so on."""
    return tuple(float(CANONICAL * 2**power) ** 2 for power in range(maps - 1))


class RegionDetections(HybridBlock):
    """Logits (N, R, classes + 1), offsets (N, R, 4 classes), regions and their scores -> boxes, scores, classes.

    As `Detections` gives them, every class with its own box of a region.

    Args:
        classes: Without the background.
        number: R.
        selection: How detections are chosen.
        variances: Units of the offsets.
    """

    variances = VARIANCES

    def __init__(self, classes: int, number: int, selection: Selection, **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.selection, self._number = classes, selection, number

    @property
    def choice(self) -> Choice:
        """How detections are chosen, for whatever chooses them outside of this layer."""
        return Choice(self.selection.score_above, self.selection.overlap, self.selection.per_image)

    def every(self, logits, offsets, regions, found):
        """Return all boxes (N, R classes, 4), in shares of the image, and their scores (N, R classes, classes)."""
        F = mx.sym if isinstance(logits, mx.sym.Symbol) else mx.nd
        boxes, scores = self.pairs(F, logits, offsets, regions, found)
        numbers = F.contrib.arange_like(scores, axis=2)  # in the type of the scores, as `eye` is not
        own = F.broadcast_equal(F.reshape(numbers, (1, 1, -1, 1)), F.reshape(numbers, (1, 1, 1, -1)))
        return boxes, F.reshape(F.broadcast_mul(F.expand_dims(scores, axis=3), own), shape=(0, -3, 0))

    def chosen(self, *predictions):
        """Return what a call does."""
        return self(*predictions)

    def hybrid_forward(self, F, logits, offsets, regions, found):
        boxes, scores = self.pairs(F, logits, offsets, regions, found)
        labels = F.broadcast_like(F.reshape(F.contrib.arange_like(scores, axis=2), (1, 1, -1)), scores)
        rows = (F.reshape(array, shape=(0, -1, 1)) for array in (labels, scores))
        return best_rows(F, F.concat(*rows, boxes, dim=2), self._number * self.num_classes, self.selection)

    def pairs(self, F, logits, offsets, regions, found):
        """Return corners (N, R classes, 4) in shares of the image, and scores (N, R, classes)."""
        first, last = (F.slice_axis(regions, axis=2, begin=begin, end=begin + 2) for begin in (0, 2))
        anchors = F.concat((first + last) / 2, last - first, dim=2)
        anchors = F.reshape(F.repeat(anchors, repeats=self.num_classes, axis=1), shape=(0, -1, 4))
        growth = self.selection.largest_growth
        boxes = decode(F, F.reshape(offsets, shape=(0, -1, 4)), anchors, self.variances, growth)
        scores = F.slice_axis(F.softmax(logits, axis=-1), axis=2, begin=1, end=None)
        # Where there is no proposal there is nothing.
        scores = F.broadcast_mul(scores, F.expand_dims(found > 0, axis=2))
        return F.clip(boxes, 0, 1) if self.selection.inside else boxes, scores


class FasterRCNNPredictor(Predictor):
    """(N, in_channels, side, side) -> logits and offsets of regions, the regions and their scores, in inference.

    Args:
        net: The network to stand on.
        form: The numbers.
        classes: Without the background.
        image_size: Side of the images, in pixels.

    Attributes:
        proposing: Images -> logits and offsets of the anchors, and the maps.
        proposals: These logits and offsets -> boxes, scores, and numbers of maps.
        regions: Boxes and maps -> logits and offsets.
        anchors: (P, 4), in shares of the image.
    """

    def __init__(self, net: ClassificationNet, form: RCNNForm, classes: int, image_size: int, **kwargs):
        super().__init__(**kwargs)
        self._base_init = net.default_initializer()
        with self.name_scope():
            self.proposing = _Proposing(net, form, image_size)
            sides = self.proposing.sides
            wanted = [-(-image_size // stride) for stride in form.strides]
            if sides != wanted or (form.pyramid and image_size % form.strides[-1]):
                raise ValueError(
                    f"maps of strides {form.strides} have {wanted} positions a side at {image_size} pixels, but the "
                    f"network's have {sides}; with a pyramid image_size must be a multiple of the last stride"
                )
            levels = rpn_levels(form, image_size, sides)
            self.anchors = anchor_boxes(levels, cut=False).astype(np.float32)
            self.proposals = LevelDetections(
                self.anchors,
                1,
                proposal_selection(*form.proposals),
                PLAIN,
                level_sizes=[level.side**2 * level.boxes_per_position for level in levels],
                apart=True,
            )
            self.regions = _Regions(net, form, self.proposing.channels, classes, image_size)

    def make_class_heads(self, classes: int) -> None:
        self.regions.set_classes(classes)

    def reorder_class_heads(self, order: Sequence[int]) -> bool:
        for layer, places in (
            (self.regions.classes, order),
            (self.regions.offsets, [place - 1 for place in order[1:]]),  # the background has no box
        ):
            reorder(layer.weight, places)
            reorder(layer.bias, places)
        return True

    def default_initializer(self) -> mx.init.Initializer:
        return self._base_init

    def _wait_for_statistics(self) -> None:
        # Its parts train, each by a graph of its own.
        for part in (self.proposing, self.regions):
            part._wait_for_statistics()
        super()._wait_for_statistics()

    def hybrid_forward(self, F, x):
        logits, offsets, *maps = self.proposing(x)
        regions, scores, _ = self.proposals(logits, offsets)
        regions = F.BlockGrad(regions)
        return (*self.regions(regions, *maps), regions, scores)


def proposal_selection(per_level: int, per_image: int) -> Selection:
    """Return how proposals are chosen, of so many boxes of a map, so many of an image."""
    chosen = Selection(0.0, 0.7, per_image=per_image, scores="sigmoid", per_level=per_level)
    return chosen._replace(largest_growth=GROWTH, inside=True)
