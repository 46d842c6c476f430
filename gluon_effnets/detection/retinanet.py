"""RetinaNet (Lin et al., arXiv 1708.02002) on any network: a feature pyramid, and two towers that all its maps share.

===========  ==============================================================================================
part         here
===========  ==============================================================================================
pyramid      maps of strides 8, 16 and 32; two more of strides 64 and 128 from the last of them (P3 to P7)
towers       four 3x3 convolutions with ReLU and one for the answers; for classes and for boxes
anchors      nine at every position: heights of 0.5, 1 and 2 widths, sides of 4 strides times 1, 2^(1/3), 2^(2/3)
scores       a sigmoid for every class by itself; they begin at 0.01
offsets      of the center in sides of the anchor, of logarithms of sides as they are: no variances
detections   scores above 0.05, the best 1000 pairs of a box and a class of every map, overlap 0.5, 100 of an image
===========  ==============================================================================================

Centers of anchors are at multiples of the stride and nothing is rounded, as mmdetection has it; torchvision rounds the
corners to pixels. Behind the map of stride 64 there is ReLU, as in the paper, which mmdetection leaves out.

Images are squares whose side 128 divides, so that every map covers them exactly. 640 is the default: the longer side of
most photographs of COCO. The area that mmdetection shows (800 x 1333 at most) is nearest to 896.

The logits have a column for the background like those of every detector here. Nothing is learned there and it is 0:
with a score for every class by itself nothing stands for "no object", and a place without one has low scores.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Sequence, Union

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..models import ClassificationNet
from ..models.taps import Tap
from ..nn import FeaturePyramid
from .anchors import anchor_boxes, pyramid_levels
from .backbone import Backbone, base_definition, base_network
from .boxes import PLAIN, LevelDetections, Selection
from .detector import Detector, Predictor
from .heads import by_anchor, reorder
from .losses import Focal
from .registry import register_detector
from .targets import Matching

__all__ = ["RetinaNet", "RetinaNetPredictor", "Tower", "retinanet_condensenet_v2_c", "retinanet_mobilenext_x0_35"]

STRIDES = (8, 16, 32, 64, 128)
SCALES = tuple(4 * 2 ** (third / 3) for third in range(3))
BOXES = 9
# Scores of untrained classes: so that the many places without an object weigh little at first.
PRIOR = 0.01
SELECTION = Selection(0.05, 0.5, scores="sigmoid", largest_growth=1000 / 16, inside=True, per_level=1000)


class Tower(HybridBlock):
    """What every map says of its anchors: (N, channels, H, W) -> (N, H * W * boxes, values).

    Args:
        channels: Of the maps, and of all convolutions but the last one.
        depth: Convolutions before the last one.
        boxes: Anchors at every position.
        values: For every anchor.
        bias: What the answers begin with.
    """

    def __init__(self, channels: int, depth: int, boxes: int, values: int, bias: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self._channels, self._boxes, self._bias = channels, boxes, bias
        with self.name_scope():
            self.convs = nn.HybridSequential()
            for _ in range(depth):
                settings = {"in_channels": channels, "weight_initializer": mx.init.Normal(0.01)}
                self.convs.add(nn.Conv2D(channels, 3, padding=1, activation="relu", **settings))
        self.set_values(values)

    def set_values(self, values: int) -> None:
        """Make a new last convolution, for another number of values."""
        self._values = values
        with self.name_scope():
            self.output = nn.Conv2D(
                self._boxes * values,
                3,
                padding=1,
                in_channels=self._channels,
                weight_initializer=mx.init.Normal(0.01),
                bias_initializer=mx.init.Constant(self._bias),
            )

    def hybrid_forward(self, F, x):
        return by_anchor(F, self.output(self.convs(x)), self._values)


class RetinaNetPredictor(Predictor):
    """(N, in_channels, side, side) -> logits (N, P, classes + 1), of which the first is 0, and offsets (N, P, 4).

    Args:
        net: The network to stand on.
        classes: Without the background.
        taps: The maps of strides 8, 16 and 32.
        image_size: Side of the images, in pixels.
        channels: Of the pyramid and the towers.
        depth: Convolutions of a tower before the last one.

    Raises:
        ValueError: If the maps of the network have other strides.
    """

    def __init__(
        self,
        net: ClassificationNet,
        classes: int,
        taps: Sequence[Tap],
        image_size: int,
        channels: int,
        depth: int,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._base_init = net.default_initializer()
        with self.name_scope():
            self.backbone = Backbone(net, taps)
            *shapes, _ = self.backbone.map_shapes(image_size)
            sides = [image_size // stride for stride in STRIDES[:3]]
            if [side for _, side in shapes] != sides:
                raise ValueError(f"the pyramid is for maps of {sides} pixels, but there are {shapes} at {image_size}")
            self.pyramid = FeaturePyramid([width for width, _ in shapes], channels, len(STRIDES) - len(sides))
            self.class_head = Tower(channels, depth, BOXES, classes, -math.log(1 / PRIOR - 1))
            self.box_head = Tower(channels, depth, BOXES, 4)

    def make_class_heads(self, classes: int) -> None:
        self.class_head.set_values(classes)

    def reorder_class_heads(self, order: Sequence[int]) -> bool:
        # The background, which comes first, has no weights.
        for param in (self.class_head.output.weight, self.class_head.output.bias):
            reorder(param, [place - 1 for place in order[1:]], BOXES)
        return True

    def default_initializer(self) -> mx.init.Initializer:
        return self._base_init

    def hybrid_forward(self, F, x):
        *maps, _ = self.backbone(x)
        levels = self.pyramid(*maps)
        logits, offsets = (
            F.concat(*(head(level) for level in levels), dim=1) for head in (self.class_head, self.box_head)
        )
        background = F.zeros_like(F.slice_axis(offsets, axis=2, begin=0, end=1))
        return F.concat(background, logits, dim=2), offsets


class RetinaNet(Detector):
    """RetinaNet on any network: images (N, in_channels, side, side) -> boxes, scores, classes.

    Args:
        net: The network to stand on; its blocks, with their weights if it has any, become those of the detector, and
            its normalization of images, too.
        classes: Number of the classes, the background not counted, or their names.
        taps: The maps of strides 8, 16 and 32, see `ClassificationNet.extract`.
        image_size: Side of the images, in pixels: a multiple of 128.
        channels: Of the pyramid and the towers.
        depth: Convolutions of a tower before the last one.
        selection: How detections are chosen.

    Raises:
        ValueError: For another side, or a network whose maps have other strides.

    Example:
        >>> net = RetinaNet(get_model("mobilenext_x1_0"), classes=20, image_size=384)
    """

    # As mmdetection has them: offsets are learned by their absolute differences.
    matching = Matching(0.5, 0.4, all_best=True)
    criterion = Focal(0.25, 2.0, beta=0.0, background=False)

    def __init__(
        self,
        net: ClassificationNet,
        classes: Union[int, Sequence[str]],
        taps: Sequence[Tap] = (2, 3, 4),
        *,
        image_size: int = 640,
        channels: int = 256,
        depth: int = 4,
        selection: Selection = SELECTION,
        **kwargs,
    ):
        if image_size < STRIDES[-1] or image_size % STRIDES[-1]:
            raise ValueError(f"image_size is {image_size}; it must be a multiple of {STRIDES[-1]}")
        count = classes if isinstance(classes, int) else len(classes)
        levels = pyramid_levels(image_size, STRIDES, SCALES)
        sizes = [level.side**2 * level.boxes_per_position for level in levels]
        super().__init__(
            RetinaNetPredictor(net, count, taps, image_size, channels, depth),
            anchor_boxes(levels, cut=False),
            classes,
            image_size,
            selection,
            base_definition(net),
            net.in_channels,
            functools.partial(LevelDetections, variances=PLAIN, level_sizes=sizes),
            **kwargs,
        )
        self.preprocessing = net.preprocessing.normalization


def _retinanet(name: str, classes, pretrained_base: Any = False, ctx=mx.cpu(), *, own, **options) -> RetinaNet:
    own = {**own, **{key: options.pop(key) for key in ("image_size", "selection") if key in options}}
    return RetinaNet(base_network(name, pretrained_base, ctx, options), classes, **own)


@register_detector(
    base="condensenet_v2_c",
    source="mmdetection",
    classes=80,
    image_size=640,
    reconstruction="the authors say mmdetection's RetinaNet, COCO and the backbone alone; taps (the concatenated maps "
    "at the end of the last three blocks, before BN), the side of 640 and square images are ours",
)
def retinanet_condensenet_v2_c(classes, *args, **options) -> RetinaNet:
    """RetinaNet on CondenseNetV2-C, of which its authors publish 31.7 AP on COCO.

    `image_size`: a multiple of 128. `condensed=True`: the network at inference, see `condense`.
    """
    return _retinanet("condensenet_v2_c", classes, *args, own={}, **options)


@register_detector(
    base="mobilenext_x0_35",
    image_size=384,
    reconstruction="ours: towers and pyramid of 64 channels, for small data and tests",
)
def retinanet_mobilenext_x0_35(classes, *args, **options) -> RetinaNet:
    """A small RetinaNet on MobileNeXt 0.35, its pyramid and towers of 64 channels."""
    own = {"image_size": 384, "channels": 64}
    return _retinanet("mobilenext_x0_35", classes, *args, own=own, **options)
