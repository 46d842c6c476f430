"""Faster R-CNN (Ren et al., arXiv 1506.01497) on any network, with one map or a feature pyramid.

==============  ========================================  =====================================================
part            one map ('C4')                            feature pyramid
==============  ========================================  =====================================================
maps            the stage of stride 16                    strides 4 to 32 and a fifth by pooling, 256 channels
anchors         9: heights of 0.5, 1 and 2 widths, sides  3: the same heights, a side of 8 strides, on
                of 128, 256 and 512 pixels                multiples of the stride
proposals       overlap 0.7; of 12000 the best 2000 in    overlap 0.7 within a map; of 2000 in training, 1000
                training, of 6000 the best 300 later      else, of every map, the best 1000
regions         14 x 14 positions                         7 x 7 positions of the map that fits their size
box head        the last stage of the network, pooled     two dense layers of 1024
drawn           256 anchors, 128 regions of an image      256 anchors, 512 regions of an image
detections      score 0.05, overlap 0.3, 100 of an image  score 0.05, overlap 0.5, 100 of an image
==============  ========================================  =====================================================

The first column has the numbers of py-faster-rcnn, the "public Caffe code" that ShuffleNet's authors name, the second
those of mmdetection's configuration, which CondenseNetV2's authors name. Regions are aligned (`ROIAlign`) in both,
where the Caffe code pools them, and proposals may be of any size. Images are squares.

GluonCV's network runs inference for one image at a time, and means something else after training than before. This one
takes batches, and has one meaning: a call detects, `losses` trains.
"""

from __future__ import annotations

from typing import Any, Sequence, Union

import mxnet as mx
import numpy as np
from mxnet import autograd

from ..models import ClassificationNet
from .backbone import base_definition, base_network
from .boxes import PLAIN
from .detector import Detector
from .losses import Losses, smooth_l1
from .rcnn_parts import C4, FPN, FasterRCNNPredictor, RCNNForm, RegionDetections, proposal_selection
from .rcnn_targets import Drawn, draw, draw_regions
from .registry import register_detector
from .targets import Matching

__all__ = [
    "C4",
    "FPN",
    "FasterRCNN",
    "RCNNForm",
    "faster_rcnn_condensenet_v2_c",
    "faster_rcnn_mobilenet_v1",
    "faster_rcnn_mobilenet_v1_x0_25",
    "faster_rcnn_shufflenet_v1_g3_x2_0",
]

Classes = Union[int, Sequence[str]]
# What of a form decides the answers but shows in no shape.
DECISIVE = ("strides", "scales", "regions", "sample_ratio", "aligned")


class FasterRCNN(Detector):
    """Faster R-CNN on any network: images (N, in_channels, side, side) -> boxes, scores, classes.

    Boxes come from proposals: there is nothing that every anchor says of the classes, so `predictions` is refused.
    `anchors` are those of the proposals, and `losses` trains both stages. Every proposal has a box for each class, so
    that `all_boxes` gives as many, each with a score of its own class alone.

    Args:
        net: The network to stand on; its blocks, with their weights if it has any, become those of the detector, and
            its normalization of images, too.
        classes: Number of the classes, the background not counted, or their names.
        form: The numbers, `C4`, `FPN` or others.
        image_size: Side of the images, in pixels; with a pyramid a multiple of its last stride.

    Raises:
        ValueError: For another side, or a network whose maps have other strides.

    Example:
        >>> net = FasterRCNN(get_model("mobilenet_v1_x1_0"), 20, C4, image_size=320)
    """

    def __init__(
        self, net: ClassificationNet, classes: Classes, form: RCNNForm = FPN, *, image_size: int = 640, **kwargs
    ):
        count = classes if isinstance(classes, int) else len(classes)
        predictor = FasterRCNNPredictor(net, form, count, image_size)
        number = min(form.proposals[1], len(predictor.anchors))
        super().__init__(
            predictor,
            predictor.anchors,
            classes,
            image_size,
            form.selection,
            {**base_definition(net), **{key: getattr(form, key) for key in DECISIVE}},
            net.in_channels,
            lambda anchors, classes, selection: RegionDetections(classes, number, selection),
            **kwargs,
        )
        self.form, self.preprocessing = form, net.preprocessing.normalization
        inside = np.abs(predictor.anchors[:, :2] - 0.5) + predictor.anchors[:, 2:] / 2 <= 0.5 + 1e-6
        # Anchors that learn, as places among all.
        self._learning = np.flatnonzero(inside.all(axis=1) | (not form.inside))

    def predictions(self, x):
        raise ValueError("Faster R-CNN has no answer of every anchor: a call detects, losses(x, boxes, label) trains")

    def losses(self, x, boxes, label) -> Losses:
        """Return the parts of the loss of a batch; within `autograd.record()` gradients follow from them.

        The parts are 'rpn_class' and 'rpn_box' of anchors, 'class' and 'box' of regions, each divided by the number
        that was drawn: anchors and regions are drawn by chance, from MXNet's generator.

        Args:
            x: Images (N, in_channels, side, side).
            boxes: (N, M, 4): x and y of two corners in shares of the image; any numbers where there is no box.
            label: (N, M): classes from 0; -1 where there is no box.
        """
        predictor = self.predictor
        logits, offsets, *maps = predictor.proposing(x)
        of_anchors = self._losses_of_anchors(logits, offsets, boxes, label)
        with autograd.pause():
            chosen = proposal_selection(*self.form.training_proposals)
            anchors = predictor.proposals.anchors.data(x.context)
            found = predictor.proposals.choose(mx.nd, logits, offsets, anchors, chosen)
            drawn = draw_regions(found[0], found[1] > 0, boxes, label, self.form.regions_drawn)
        logits, offsets = predictor.regions(drawn.regions, *maps)
        of_regions = self._losses_of_regions(logits, offsets, drawn)
        return Losses({**of_anchors.sums, **of_regions.sums}, {**of_anchors.counts, **of_regions.counts})

    def _losses_of_anchors(self, logits, offsets, boxes, label) -> Losses:
        places = mx.nd.array(self._learning, ctx=logits.context)
        logits, offsets = (array.take(places, axis=1).astype("float32") for array in (logits, offsets))
        with autograd.pause():
            anchors = self.predictor.proposals.anchors.data(logits.context)[0].take(places)
            there = mx.nd.minimum(label, 0)  # all classes are one
            classes, wanted = Matching(0.7, 0.3, all_best=True)(anchors, boxes, there, PLAIN)
            drawn = draw(classes, self.form.anchors_drawn)
        logits = logits[:, :, 1]
        entropy = mx.nd.relu(logits) - logits * (classes > 0) + mx.nd.Activation(-logits.abs(), act_type="softrelu")
        of_boxes = smooth_l1(offsets - wanted, self.form.beta).sum(axis=2) * (classes > 0)
        count = drawn.sum()
        sums = {"rpn_class": (entropy * drawn).sum(), "rpn_box": (of_boxes * drawn).sum()}
        return Losses(sums, dict.fromkeys(sums, count))

    def _losses_of_regions(self, logits, offsets, drawn: Drawn) -> Losses:
        classes, positive = drawn.classes, drawn.classes > 0
        entropy = -mx.nd.pick(mx.nd.log_softmax(logits.astype("float32"), axis=-1), mx.nd.maximum(classes, 0), axis=2)
        # Of the boxes of a region the one of its class.
        own = mx.nd.one_hot(mx.nd.where(positive, classes - 1, classes * 0), self.num_classes)
        offsets = offsets.astype("float32").reshape((0, 0, self.num_classes, 4))
        offsets = mx.nd.broadcast_mul(offsets, own.expand_dims(3)).sum(axis=2)
        of_boxes = smooth_l1(offsets - drawn.offsets, self.form.region_beta).sum(axis=2) * positive
        learned = classes >= 0
        sums = {"class": (entropy * learned).sum(), "box": of_boxes.sum()}
        return Losses(sums, {part: learned.sum() for part in sums})


def _build(name: str, form: RCNNForm, classes: Classes, pretrained_base: Any = False, ctx=mx.cpu(), *, own, **options):
    image_size = options.pop("image_size", own)
    if "selection" in options:
        form = form._replace(selection=options.pop("selection"))
    return FasterRCNN(base_network(name, pretrained_base, ctx, options), classes, form, image_size=image_size)


PUBLIC_CAFFE = (
    "the authors name the public Caffe code with its default settings; one map of stride 16, the last stage as box "
    "head, aligned regions and square images are ours"
)


@register_detector(
    base="shufflenet_v1_g3_x2_0", source="py-faster-rcnn", classes=80, image_size=600, reconstruction=PUBLIC_CAFFE
)
def faster_rcnn_shufflenet_v1_g3_x2_0(classes: Classes, *args, **options) -> FasterRCNN:
    """Faster R-CNN on ShuffleNet 2x, g = 3: 25.0 AP on COCO published at 600 pixels, 18.7 at 300.

    `image_size`: 600, or another one.
    """
    return _build("shufflenet_v1_g3_x2_0", C4, classes, *args, own=600, **options)


@register_detector(
    base="mobilenet_v1_x1_0", source="py-faster-rcnn", classes=80, image_size=600, reconstruction=PUBLIC_CAFFE
)
def faster_rcnn_mobilenet_v1(classes: Classes, *args, **options) -> FasterRCNN:
    """Faster R-CNN on MobileNetV1: 19.8 AP on COCO published at 600 pixels, 16.4 at 300, beside ShuffleNet's.

    `image_size`: 600, or another one.
    """
    return _build("mobilenet_v1_x1_0", C4, classes, *args, own=600, **options)


@register_detector(
    base="condensenet_v2_c",
    source="mmdetection",
    classes=80,
    image_size=640,
    reconstruction="the authors say mmdetection's Faster R-CNN, COCO and the backbone alone; the feature pyramid, its "
    "taps (the concatenated maps at the end of the last four blocks, before BN), the side of 640 and square images are "
    "ours",
)
def faster_rcnn_condensenet_v2_c(classes: Classes, *args, **options) -> FasterRCNN:
    """Faster R-CNN with a feature pyramid on CondenseNetV2-C: 31.4 AP on COCO published.

    `image_size`: a multiple of 64. `condensed=True`: the network at inference, see `condense`.
    """
    return _build("condensenet_v2_c", FPN, classes, *args, own=640, **options)


SMALL = C4._replace(
    scales=(2, 4, 8), rpn_channels=128, regions=7, proposals=(1000, 100), training_proposals=(2000, 500)
)


@register_detector(
    base="mobilenet_v1_x0_25",
    image_size=320,
    reconstruction="ours: smaller anchors, regions of 7 x 7, fewer proposals, for small data and tests",
)
def faster_rcnn_mobilenet_v1_x0_25(classes: Classes, *args, **options) -> FasterRCNN:
    """A small Faster R-CNN on MobileNetV1 0.25, its anchors of 32, 64 and 128 pixels.

    `image_size`: 320, or another one.
    """
    return _build("mobilenet_v1_x0_25", SMALL, classes, *args, own=320, **options)
