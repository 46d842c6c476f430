"""SSDLite (MobileNetV2, arXiv 1801.04381, section 6.2): SSD with depthwise-separable extra layers and heads."""

from __future__ import annotations

import math
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..models import ClassificationNet
from ..models.taps import Tap
from ..nn import ConvBN, Norm
from .anchors import AnchorLevel, anchor_boxes
from .backbone import Backbone, base_definition
from .boxes import Selection
from .detector import Detector, Predictor
from .heads import by_anchor
from .losses import Criterion, MultiBox
from .targets import Matching

__all__ = ["BoxHead", "Form", "SSDLite", "SSDLitePredictor"]


class Form(NamedTuple):
    """The numbers of an SSDLite, and what they do not tell.

    Attributes:
        taps: Of the network, see `ClassificationNet.extract`.
        extras: Makes the extra layers, one after the other, from the channels of the last map.
        levels: The anchors of all maps.
        norm: How the BN layers of extra layers and heads are made.
        plain_last_head: Whether the heads of the last map are a single 1x1 convolution.
        head_bias: Whether the depthwise convolutions of the heads have a bias, in front of their BN.
        init: Of the convolutions of the heads.
        base_init: Of all others; None: that of the network.
        selection: How detections are chosen.
        matching: Which anchors learn which boxes.
        criterion: What their answers lack.
        class_init: Of the convolutions of the heads for the classes; None: as of the others.
        class_prior: How probable every class is before training, by the biases of its heads; None: these are 0.
    """

    taps: Sequence[Tap]
    extras: Callable[[int, Norm], List[HybridBlock]]
    levels: Sequence[AnchorLevel]
    norm: Norm = Norm()
    plain_last_head: bool = False
    head_bias: bool = False
    init: mx.init.Initializer = mx.init.Xavier()
    base_init: Optional[mx.init.Initializer] = None
    selection: Selection = Selection()
    matching: Matching = Matching()
    criterion: Criterion = MultiBox()
    class_init: Optional[mx.init.Initializer] = None
    class_prior: Optional[float] = None


class BoxHead(HybridBlock):
    """What a map says of its anchors: (N, C, H, W) -> (N, H * W * boxes, values).

    Args:
        in_channels: C.
        boxes: Anchors at every position.
        values: For every anchor.
        depthwise: Whether a depthwise 3x3 convolution, BN and ReLU6 come before the 1x1 convolution.
        use_bias: Of the depthwise convolution.
        norm: How its BN is made.
        init: Of the convolutions.
        bias: That the 1x1 convolution begins with.
        kernel: Of the last convolution, 1 or 3.
    """

    def __init__(
        self,
        in_channels: int,
        boxes: int,
        values: int,
        *,
        depthwise: bool = True,
        use_bias: bool = False,
        norm: Norm = Norm(),
        init: Optional[mx.init.Initializer] = None,
        bias: float = 0.0,
        kernel: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._values = values
        with self.name_scope():
            self.depthwise = None
            if depthwise:
                self.depthwise = ConvBN(
                    in_channels, in_channels, 3, groups=in_channels, act="relu6", norm=norm, use_bias=use_bias
                )
                self.depthwise.conv.weight.init = init
            inits = {"weight_initializer": init, "bias_initializer": mx.init.Constant(bias)}
            pad = kernel // 2
            self.output = nn.Conv2D(boxes * values, kernel, padding=pad, in_channels=in_channels, **inits)

    def hybrid_forward(self, F, x):
        x = self.output(self.depthwise(x) if self.depthwise is not None else x)
        return by_anchor(F, x, self._values)


class SSDLitePredictor(Predictor):
    """(N, in_channels, side, side) -> logits (N, P, classes + 1), the background first, and offsets (N, P, 4).

    Args:
        net: The network to stand on.
        form: The numbers.
        classes: Without the background.
        image_size: Side of the images, in pixels.

    Raises:
        ValueError: If the maps of the network have not the sides of the anchors.
    """

    def __init__(self, net: ClassificationNet, form: Form, classes: int, image_size: int, **kwargs):
        super().__init__(**kwargs)
        self._form, self._base_init = form, form.base_init or net.default_initializer()
        with self.name_scope():
            self.backbone = Backbone(net, form.taps)
            *taps, last = self.backbone.map_shapes(image_size)
            self.extras = nn.HybridSequential()
            self.extras.add(*form.extras(last[0], form.norm))
            shapes = [*taps, *self._extra_shapes(last)]
            sides = [level.side for level in form.levels]
            if [side for _, side in shapes] != sides:
                raise ValueError(f"the anchors are for maps of {sides} pixels, but there are {shapes} at {image_size}")
            self._channels = [channels for channels, _ in shapes]
            self.box_heads = self._heads(4, form.init)
            self.class_heads = self._class_heads(classes)

    def _extra_shapes(self, last: Tuple[int, int]) -> List[Tuple[int, int]]:
        x, maps = mx.sym.var("data"), []
        for layer in self.extras:
            x = layer(x)
            maps.append(x)
        _, shapes, _ = mx.sym.Group(maps).infer_shape(data=(1, last[0], last[1], last[1]))
        return [shape[1:3] for shape in shapes]

    def _class_heads(self, classes: int) -> nn.HybridSequential:
        prior = self._form.class_prior
        bias = 0.0 if prior is None else math.log(prior / (1 - prior))
        return self._heads(classes + 1, self._form.class_init or self._form.init, bias)

    def _heads(self, values: int, init: mx.init.Initializer, bias: float = 0.0) -> nn.HybridSequential:
        form, heads, last = self._form, nn.HybridSequential(), len(self._channels) - 1
        with heads.name_scope():
            for number, (channels, level) in enumerate(zip(self._channels, form.levels)):
                settings = {"use_bias": form.head_bias, "norm": form.norm, "init": init, "bias": bias}
                depthwise = not (form.plain_last_head and number == last)
                heads.add(BoxHead(channels, level.boxes_per_position, values, depthwise=depthwise, **settings))
        return heads

    def make_class_heads(self, classes: int) -> None:
        with self.name_scope():
            self.class_heads = self._class_heads(classes)

    def reorder_class_heads(self, order: Sequence[int]) -> bool:
        for head in self.class_heads:
            for param in (head.output.weight, head.output.bias):
                array = param.list_data()[0]
                places = mx.nd.array(order, dtype="int32", ctx=array.context)
                values = array.reshape((-1, len(order), *array.shape[1:])).take(places, axis=1)
                param.set_data(values.reshape(array.shape))
        return True

    def default_initializer(self) -> mx.init.Initializer:
        return self._base_init

    def hybrid_forward(self, F, x):
        *maps, x = self.backbone(x)
        for layer in self.extras:
            x = layer(x)
            maps.append(x)
        found = [
            F.concat(*(head(x) for head, x in zip(heads, maps)), dim=1) for heads in (self.class_heads, self.box_heads)
        ]
        return tuple(found)


class SSDLite(Detector):
    """SSDLite on any network: images (N, in_channels, side, side) -> boxes, scores, classes.

    Args:
        net: The network to stand on; its blocks, with their weights if it has any, become those of the detector.
        form: The numbers.
        classes: Number of the classes, the background not counted, or their names.
        image_size: Side of the images, in pixels.
        definition: Further entries of `definition()`.

    Raises:
        ValueError: If the maps of the network have not the sides of the anchors.
    """

    def __init__(
        self,
        net: ClassificationNet,
        form: Form,
        classes: Union[int, Sequence[str]],
        *,
        image_size: int = 320,
        definition: Optional[Mapping[str, Any]] = None,
        **kwargs,
    ):
        count = classes if isinstance(classes, int) else len(classes)
        predictor = SSDLitePredictor(net, form, count, image_size)
        super().__init__(
            predictor,
            anchor_boxes(form.levels),
            classes,
            image_size,
            form.selection,
            {**base_definition(net), **(definition or {})},
            net.in_channels,
            **kwargs,
        )
        self.form, self.matching, self.criterion = form, form.matching, form.criterion
