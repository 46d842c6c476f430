"""FSSD300 on DS-Net: at one width, or at the width that the gate chooses for every image.

DS-Net's authors put DS-MBNet into FSSD and publish costs and mAP alone. What is ours:

- *One decision for an image*, before detection: the gate reads the map behind the first tap, of stride 8, as it does in
  the classifier, and all images of one decision run together. In training, too, BN before a decision has its running
  statistics, so that no image decides for another one; the gate itself learns nothing here.
- *Transforms are cut to the active width*, as all layers of DS-Net are: the 1x1 convolutions of the neck read the first
  channels of their weights. Neck and heads are shared by all widths, but for the running statistics of BN, of which
  every candidate has its own.
- *The widths of S and M* are those that have the costs of DS-MBNet-S and -M at 224 pixels, 153 M and 319 M: the second
  and the eighth of the 14. The authors' are means over images that a gate has routed.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..files.text import shortened
from ..models import ClassificationNet, SlimmableNet
from ..models.slimmable import Step
from ..models.taps import Tap, map_shapes
from ..models.training_graph import CompiledTraining
from ..nn.slimmable import RunningStatistics, SeparableUnit, SlicedConv2D, SlicedConvBN, sliced_norm
from .backbone import base_definition, base_network
from .detector import Detector, Predictor
from .fssd import (
    FSSD,
    OPTIONS,
    SIDE,
    Classes,
    Neck,
    Separable,
    active_shapes,
    answers,
    check_sides,
    make_heads,
    make_neck,
    reorder_heads,
)
from .registry import register_detector

__all__ = [
    "RoutedFSSD",
    "RoutedPredictor",
    "WidthDetector",
    "fssd300_ds_mobilenet_v1",
    "fssd300_ds_mobilenet_v1_m",
    "fssd300_ds_mobilenet_v1_s",
]

# Of the 14 widths of DS-MBNet.
S, M = 1, 7


class NeckStatistics(HybridBlock):
    """Running statistics of a neck's BN layers, for all candidates but the first: children '<layer>.<candidate>'."""

    def __init__(self, neck: Neck, candidates: int, **kwargs):
        super().__init__(**kwargs)
        norms = [neck.norm, *(norm for block in neck.blocks for norm in (block.first, block.second))]
        self._numbers = {norm.gamma: number for number, norm in enumerate(norms)}
        with self.name_scope():
            for number, norm in enumerate(norms):
                for candidate in range(1, candidates):
                    self.register_child(RunningStatistics(norm.gamma.shape[0]), f"{number}.{candidate}")

    def at(self, candidate: int) -> _AtCandidate:
        """Return what gives the statistics of a layer for one candidate."""
        return _AtCandidate(self, candidate)


class _AtCandidate:
    """What `sliced_norm` asks for statistics: those of one candidate, whatever the number of channels."""

    def __init__(self, whole: NeckStatistics, candidate: int):
        self._whole, self._candidate = whole, candidate

    def of(self, layer: nn.BatchNorm, channels: int) -> HybridBlock:
        if self._candidate == 0:
            return layer
        return self._whole._children[f"{self._whole._numbers[layer.gamma]}.{self._candidate}"]


def sliced_neck(neck: Neck, widths: Sequence[int], statistics: Any) -> Neck:
    """Return the view of a neck for maps of fewer channels, with BN statistics of its own."""

    def view(block: Separable) -> Separable:
        parts = []
        for conv, norm in ((block.depthwise, block.first), (block.pointwise, block.second)):
            channels = norm.gamma.shape[0]
            parts += [SlicedConv2D(conv, conv.weight.shape[1], channels), sliced_norm(norm, channels, statistics)]
        return Separable(*parts)

    pairs = zip(neck.transforms, widths)
    transforms = [SlicedConv2D(transform, width, transform.weight.shape[0]) for transform, width in pairs]
    norm = sliced_norm(neck.norm, neck.norm.gamma.shape[0], statistics)
    return Neck(neck.side, transforms, norm, [view(block) for block in neck.blocks])


class _Common(CompiledTraining):
    """Images -> the map behind the first tap."""

    def __init__(self, stages: HybridBlock):
        super().__init__()
        self.stages = stages

    def hybrid_forward(self, F, x):
        return self.stages(x)


class _Decision(HybridBlock):
    """The map that a gated unit reads -> logits of the candidates (N, K); BN by running statistics, in training too."""

    def __init__(self, net: SlimmableNet, step: Step):
        super().__init__()
        unit = step.block
        assert isinstance(unit, SeparableUnit) and unit.se is not None and step.before and step.gate is not None
        channels = net.candidates(step.before)[-1]
        self.depthwise = SlicedConvBN(unit.depthwise, channels, channels, net.statistics, frozen=True)
        self.pool, self.head = unit.se.pool, net.gates[step.gate]
        self.reduce = self.act = None
        if self.head.reduce is None:
            self.reduce = SlicedConv2D(unit.se.reduce, channels, unit.se.reduce.weight.shape[0])
            self.act = unit.se.act

    def hybrid_forward(self, F, x):
        x = self.pool(self.depthwise(x))
        return self.head(self.act(self.reduce(x)) if self.reduce is not None else x)


class _Tail(CompiledTraining):
    """The map behind the first tap -> logits and offsets, at one width."""

    def __init__(self, stages: Sequence[HybridBlock], neck: Neck, *heads: HybridBlock):
        super().__init__()
        self.stages = nn.HybridSequential()
        self.stages.add(*stages)
        self.neck = neck
        self.class_heads, self.box_heads = heads

    def hybrid_forward(self, F, x):
        maps = [x]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return answers(F, self.neck(*maps), self.class_heads, self.box_heads)


class _Views:
    """Blocks over the Parameters of a `RoutedPredictor`, which they do not own: no children of it."""

    def __init__(self, common: _Common, decision: _Decision, tails: Dict[int, _Tail]):
        self.common, self.decision, self.tails = common, decision, tails

    def __iter__(self) -> Iterator[HybridBlock]:
        yield from (self.common, self.decision, *self.tails.values())


class _AtWidth(Predictor):
    """Images -> logits and offsets at one width, over the Parameters of a `RoutedPredictor`."""

    def __init__(self, common: _Common, tail: _Tail):
        super().__init__()
        self.common, self.tail = common, tail

    def _wait_for_statistics(self) -> None:
        # Both may have trained, each by a graph of its own.
        self.common._wait_for_statistics()
        self.tail._wait_for_statistics()
        super()._wait_for_statistics()

    def hybrid_forward(self, F, x):
        return self.tail(self.common(x))


class RoutedPredictor(Predictor):
    """(N, in_channels, side, side) -> logits and offsets, every image at the width that the gate chooses.

    Its children have the Parameters; `views` runs on these.

    Args:
        net: The network to stand on, with one gate, in the unit behind the first tap.
        taps: Its stages of strides 8, 16 and 32.
        classes: Without the background.
        image_size: Side of the images, in pixels.

    Raises:
        ValueError: For another network, or other taps.
    """

    def __init__(self, net: ClassificationNet, taps: Sequence[Tap], classes: int, image_size: int = SIDE, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(net, SlimmableNet) or net.gating is None or net.num_choices != 1:
            raise ValueError("a routed detector stands on a slimmable network with one gate")
        first, *others = (range(len(net.stages))[int(tap)] for tap in taps)
        gated = next(step for step in net.steps() if step.gate is not None)
        if others != [first + 1, first + 2] or (gated.stage, gated.place) != (first + 1, 0):
            raise ValueError("the taps of a routed detector are three stages, and the gate is behind the first")
        self._base_init = net.default_initializer()
        self.widths = range(net.gating.first_candidate, net.gating.first_candidate + net.gating.num_candidates)
        with self.name_scope():
            self.net = net
            net.output.collect_params().setattr("grad_req", "null")  # no part of a detector
            subnets = [net.subnet(width) for width in self.widths]
            shapes = [_shapes(subnet, taps, image_size) for subnet in subnets]
            sides = check_sides(shapes[-1], image_size)
            self.neck = make_neck([width for width, _ in shapes[-1]], sides)
            self.statistics = NeckStatistics(self.neck, len(subnets))
            self.box_heads = make_heads(4, len(sides))
            self.class_heads = make_heads(classes + 1, len(sides))
        common = nn.HybridSequential()
        common.add(*subnets[0].stages[: first + 1])
        tails = {}
        for number, (width, subnet) in enumerate(zip(self.widths, subnets)):
            neck = sliced_neck(self.neck, [channels for channels, _ in shapes[number]], self.statistics.at(number))
            tails[width] = _Tail(subnet.stages[first + 1 : first + 3], neck, self.class_heads, self.box_heads)
        self.views = _Views(_Common(common), _Decision(net, gated), tails)

    def hybridize(self, active: bool = True, *args: Any, **kwargs: Any) -> None:
        super().hybridize(active, *args, **kwargs)
        for view in self.views:
            view.hybridize(active, *args, **kwargs)

    def make_class_heads(self, classes: int) -> None:
        with self.name_scope():
            self.class_heads = make_heads(classes + 1, len(self.box_heads))
        for tail in self.views.tails.values():
            tail.class_heads = self.class_heads

    def reorder_class_heads(self, order: Sequence[int]) -> bool:
        return reorder_heads(self.class_heads, order)

    def default_initializer(self) -> mx.init.Initializer:
        return self._base_init

    def route(self, x: mx.nd.NDArray) -> np.ndarray:
        """Return the width that the gate chooses for every image of (N, in_channels, side, side), (N,)."""
        return self._route(x, self.views.common(x))

    def _route(self, x: mx.nd.NDArray, maps: mx.nd.NDArray) -> np.ndarray:
        if autograd.is_training():
            # Not of these maps, which the other images of the batch have normalized.
            with autograd.pause():
                return self.net.route(x).asnumpy()[:, 0]
        return self.widths[0] + self.views.decision(maps).argmax(axis=1).asnumpy().astype(int)

    def forward(self, x):
        if not isinstance(x, mx.nd.NDArray):
            raise ValueError("a routed detector is no single graph: take net.at_width(w) to export one of its widths")
        maps = self.views.common(x)
        decisions = self._route(x, maps)
        if (decisions == decisions[0]).all():
            return self.views.tails[decisions[0]](maps)
        order = np.argsort(decisions, kind="stable")
        groups = [order[decisions[order] == width] for width in np.unique(decisions)]
        parts = [self.views.tails[decisions[rows[0]]](_rows(maps, rows)) for rows in groups]
        return tuple(_rows(mx.nd.concat(*kind, dim=0), np.argsort(order)) for kind in zip(*parts))


def _shapes(net: ClassificationNet, taps: Sequence[Tap], image_size: int) -> List[Tuple[int, int]]:
    return map_shapes(lambda x: net.extract(x, taps), net.in_channels, image_size)


def _rows(array: mx.nd.NDArray, rows: np.ndarray) -> mx.nd.NDArray:
    return array.take(mx.nd.array(rows, ctx=array.context))


class RoutedFSSD(FSSD):
    """FSSD whose gate chooses the width of every image: images (N, in_channels, side, side) -> detections.

    Args: Those of `FSSD`; the network is slimmable, and has one gate behind the first tap.

    Raises:
        ValueError: For another network.

    Example:
        >>> net = get_detector("fssd300_ds_mobilenet_v1", classes=20)
        >>> net.initialize()
        >>> net.route(mx.nd.zeros((2, 3, 300, 300)))
        array([0, 0])
    """

    predictor_class = RoutedPredictor
    predictor: RoutedPredictor
    not_exported = (
        "chooses a width for every image and is no single graph; export it with --routed (export_routed), or "
        "net.at_width(w)"
    )

    def forward(self, x):
        boxes, scores, classes = self.detections(*self.predictor(x))
        return self._in_pixels(mx.nd, boxes, scores, classes)

    def route(self, x: mx.nd.NDArray) -> np.ndarray:
        """Return the index of the width that the gate chooses for every image, (N,)."""
        return self.predictor.route(x)

    def at_width(self, width: int) -> Detector:
        """Return the detector at one width of the gate's, over the Parameters of this one: a single graph.

        Args:
            width: One of `widths`.

        Raises:
            ValueError: For another width.
        """
        if width not in self.widths:
            raise ValueError(f"width is {shortened(width)}; choose one of {', '.join(map(str, self.widths))}")
        views = self.predictor.views
        predictor = _AtWidth(views.common, views.tails[width])
        net = WidthDetector(
            predictor,
            self.anchors.asnumpy(),
            self.classes or self.num_classes,
            self.image_size,
            definition={**self._definition, "width": width},
            in_channels=self.in_channels,
            make_detections=lambda *_: self.detections,
        )
        net.info, net.preprocessing, net.origin = self.info, self.preprocessing, self.origin
        return net

    @property
    def widths(self) -> Sequence[int]:
        """The indices of the widths that the gate chooses from."""
        return self.predictor.widths


class WidthDetector(Detector):
    """A routed detector at one width. Its Parameters, file and classes are those of the routed one."""

    def active_shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Return {name of a Parameter: shape of the part of it that this width uses}, without BN statistics."""
        return active_shapes(self)

    def reset_class(self, classes) -> None:
        raise ValueError("a width has the heads of the routed detector: call reset_class of that")


OURS = (
    "of FSSD with DS-Net nothing but costs and mAP is published: where the gate reads, transforms cut to the active "
    "width, BN statistics of every width, and which widths are S and M, is ours"
)


def _build(classes: Classes, pretrained_base: Any = False, ctx=mx.cpu(), *, width=None, **options) -> FSSD:
    own = {key: options.pop(key) for key in OPTIONS if key in options}
    net = base_network("ds_mobilenet_v1", pretrained_base, ctx, options)
    if width is None:
        return RoutedFSSD(net, classes, **own)
    return FSSD(net.subnet(width), classes, definition={**base_definition(net), "width": width}, **own)


@register_detector(base="ds_mobilenet_v1", image_size=SIDE, reconstruction=OURS)
def fssd300_ds_mobilenet_v1(classes: Classes, *args, **options) -> FSSD:
    """FSSD300 on DS-MBNet, whose gate chooses one of four widths for every image; or at one of 14.

    `width`: 0 to 13, the only width of all images; None: routed. `form`: 'voc' or 'coco', whose anchors. `image_size`:
    300, or another one.
    """
    return _build(classes, *args, **options)


@register_detector(base="ds_mobilenet_v1", image_size=SIDE, reconstruction=OURS)
def fssd300_ds_mobilenet_v1_s(classes: Classes, *args, **options) -> FSSD:
    """FSSD300 on the second width of DS-MBNet, 152 M MAdds at 224 pixels: DS-MBNet-S, 72.8 mAP on VOC published."""
    return _build(classes, *args, width=S, **options)


@register_detector(base="ds_mobilenet_v1", image_size=SIDE, reconstruction=OURS)
def fssd300_ds_mobilenet_v1_m(classes: Classes, *args, **options) -> FSSD:
    """FSSD300 on the eighth width of DS-MBNet, 318 M MAdds at 224 pixels: DS-MBNet-M, 73.7 mAP on VOC published."""
    return _build(classes, *args, width=M, **options)
