"""FSSD (Li and Zhou, arXiv 1712.00960) as in PytorchSSD's FSSD_mobile: maps fused into one, and a pyramid from it.

=====  ======================  ======================================================================
size   map                     made by
=====  ======================  ======================================================================
38     fused, 768 channels     1x1 convolutions to 256 with ReLU from the maps of strides 8, 16 and
                               32, the last two enlarged to the first; side by side; BN
38     512                     a separable block
19     512                     with stride 2
10     256                     with stride 2
5      256                     with stride 2
3      128                     without padding
1      128                     without padding
=====  ======================  ======================================================================

A separable block is a depthwise 3x3 and a 1x1 convolution, BN and ReLU behind both. Heads are 3x3 convolutions with
bias; at every position there are 6 anchors, 4 on the last two maps. DS-Net's authors put their network in place of
MobileNetV1 and publish nothing more: see `gluon_effnets.detection.routed_fssd`.

PytorchSSD drops what is beyond the 50 best detections of a class and of an image the rest beyond 300 (VOC) or 200
(COCO); here the second rule holds alone. Its images are BGR, minus a mean.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import Block, HybridBlock

from ..files.schema import check_type
from ..files.text import shortened
from ..models import ClassificationNet, Preprocessing
from ..models.taps import Tap
from ..nn import Norm, make_activation
from ..nn.compiled import norm_act
from .anchors import AnchorLevel, anchor_boxes
from .backbone import Backbone, base_definition, base_network
from .boxes import Selection
from .detector import Detector, Predictor
from .heads import reorder
from .registry import register_detector
from .ssdlite import BoxHead

__all__ = [
    "FSSD",
    "FSSDPredictor",
    "Neck",
    "Separable",
    "active_shapes",
    "fssd300_mobilenet_v1",
    "fssd300_mobilenet_v1_x0_25",
    "fssd_levels",
    "make_heads",
    "make_neck",
    "reorder_heads",
]

SIDE = 300
SIDES = (38, 19, 10, 5, 3, 1)  # of the maps at 300 pixels
STRIDE = 8  # of the first map; it doubles up to the fourth
FEWEST_PIXELS = 96
SIZES = {"voc": (30, 60, 111, 162, 213, 264, 315), "coco": (21, 45, 99, 153, 207, 261, 315)}
RATIOS = ((2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
SELECTIONS = {"voc": Selection(per_image=300), "coco": Selection(per_image=200)}
FUSED = 256
# Width, stride and padding of the separable blocks.
BLOCKS = ((512, 1, 1), (512, 2, 1), (256, 2, 1), (256, 2, 1), (128, 1, 0), (128, 1, 0))
WIDTHS = tuple(width for width, *_ in BLOCKS)
TAPS = (2, 3, 4)
OPTIONS = ("form", "selection", "image_size")  # of an FSSD; all others are of its network
PYTORCH_SSD = "lzx1413/PytorchSSD"
# He et al.'s for the outputs, and PyTorch's own of convolutions.
FAN_OUT = mx.init.Xavier("gaussian", "out", 2)
UNTOUCHED = mx.init.Xavier("uniform", "in", 1)
Classes = Union[int, Sequence[str]]


class Separable(HybridBlock):
    """Depthwise 3x3 and 1x1 convolution, BN and ReLU behind both; the parts are given, so that views are one class."""

    def __init__(self, depthwise: HybridBlock, first: HybridBlock, pointwise: HybridBlock, second: HybridBlock):
        super().__init__()
        self.depthwise, self.first, self.pointwise, self.second = depthwise, first, pointwise, second
        self.act = make_activation("relu")

    def hybrid_forward(self, F, x):
        x = norm_act(F, self.first, self.act, self.depthwise(x))
        return norm_act(F, self.second, self.act, self.pointwise(x))


class Neck(HybridBlock):
    """Three maps -> the six of the pyramid; the parts are given, so that views are one class.

    Args:
        side: Of the fused map, in positions.
        transforms: A 1x1 convolution for every map.
        norm: BN of the fused map.
        blocks: The separable blocks.
    """

    def __init__(
        self, side: int, transforms: Sequence[HybridBlock], norm: HybridBlock, blocks: Sequence[Separable], **kwargs
    ):
        super().__init__(**kwargs)
        self.side, self.norm = side, norm
        self.transforms, self.blocks = nn.HybridSequential(), nn.HybridSequential()
        self.transforms.add(*transforms)
        self.blocks.add(*blocks)

    def hybrid_forward(self, F, *maps):
        fused = []
        for number, (transform, x) in enumerate(zip(self.transforms, maps)):
            x = F.relu(transform(x))
            fused.append(F.contrib.BilinearResize2D(x, height=self.side, width=self.side) if number else x)
        x, found = self.norm(F.concat(*fused, dim=1)), []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return tuple(found)


def map_sides(image_size: int) -> Tuple[int, ...]:
    """Return the positions per side of the maps at an image size: six at 300 pixels, fewer where there is no room.

    Raises ValueError for images that are too small.
    """
    check_type("image_size", image_size, int, words="a whole number of pixels")
    if image_size < FEWEST_PIXELS:
        raise ValueError(f"image_size is {shortened(image_size)}; FSSD takes at least {FEWEST_PIXELS} pixels")
    sides = [-(-image_size // STRIDE)]
    for _, stride, padding in BLOCKS[1:]:
        sides.append(-(-sides[-1] // stride) - 2 * (1 - padding))
    return tuple(side for side in sides if side > 0)


def make_neck(widths: Sequence[int], sides: Sequence[int] = SIDES) -> Neck:
    """Return a neck for maps of these channels, which gives maps of these sides."""

    def conv(channels: int, kernel: int, **settings) -> nn.Conv2D:
        return nn.Conv2D(channels, kernel, weight_initializer=FAN_OUT, **settings)

    transforms = [conv(FUSED, 1, in_channels=width) for width in widths]
    norm, blocks, width = Norm(), [], FUSED * len(widths)
    for out, stride, padding in BLOCKS[: len(sides)]:
        settings = {"strides": stride, "padding": padding, "groups": width}
        depthwise = conv(width, 3, in_channels=width, use_bias=False, **settings)
        pointwise = conv(out, 1, in_channels=width, use_bias=False)
        blocks.append(Separable(depthwise, norm(width), pointwise, norm(out)))
        width = out
    return Neck(sides[0], transforms, norm(FUSED * len(widths)), blocks)


def make_heads(values: int, maps: int = len(SIDES)) -> nn.HybridSequential:
    """Return the heads of so many maps, for so many values of an anchor."""
    heads = nn.HybridSequential()
    with heads.name_scope():
        for width, ratios in zip(WIDTHS[:maps], RATIOS):
            heads.add(BoxHead(width, 2 + 2 * len(ratios), values, depthwise=False, kernel=3, init=UNTOUCHED))
    return heads


def fssd_levels(form: str, image_size: int = SIDE) -> List[AnchorLevel]:
    """Return the anchors of the maps, of 'voc' or 'coco': of the same shares of the image at every size."""
    sizes, levels = SIZES[form], []
    for number, side in enumerate(map_sides(image_size)):
        step = STRIDE * 2**number / image_size if number < 4 else 1 / side
        levels.append(AnchorLevel(side, step, sizes[number] / SIDE, sizes[number + 1] / SIDE, RATIOS[number]))
    return levels


class FSSDPredictor(Predictor):
    """(N, in_channels, side, side) -> logits (N, P, classes + 1), the background first, and offsets (N, P, 4).

    Args:
        net: The network to stand on.
        taps: Its maps of strides 8, 16 and 32.
        classes: Without the background.
        image_size: Side of the images, in pixels.

    Raises:
        ValueError: If the maps have other strides.
    """

    def __init__(self, net: ClassificationNet, taps: Sequence[Tap], classes: int, image_size: int = SIDE, **kwargs):
        super().__init__(**kwargs)
        self._base_init = net.default_initializer()
        with self.name_scope():
            self.backbone = Backbone(net, taps)
            *shapes, _ = self.backbone.map_shapes(image_size)
            sides = check_sides(shapes, image_size)
            self.neck = make_neck([width for width, _ in shapes], sides)
            self.box_heads = make_heads(4, len(sides))
            self.class_heads = make_heads(classes + 1, len(sides))

    def make_class_heads(self, classes: int) -> None:
        with self.name_scope():
            self.class_heads = make_heads(classes + 1, len(self.box_heads))

    def reorder_class_heads(self, order: Sequence[int]) -> bool:
        return reorder_heads(self.class_heads, order)

    def default_initializer(self) -> mx.init.Initializer:
        return self._base_init

    def hybrid_forward(self, F, x):
        *maps, _ = self.backbone(x)
        return answers(F, self.neck(*maps), self.class_heads, self.box_heads)


def reorder_heads(heads: nn.HybridSequential, order: Sequence[int]) -> bool:
    """Let the logits of heads be those at the places in `order` now; return that this is possible."""
    for head in heads:
        for param in (head.output.weight, head.output.bias):
            reorder(param, order, param.shape[0] // len(order))
    return True


def check_sides(shapes: Sequence[Tuple[int, int]], image_size: int) -> Tuple[int, ...]:
    """Return the sides of all maps; raise ValueError unless maps, given as channels and height, are the first three."""
    found, wanted = [side for _, side in shapes], map_sides(image_size)
    if found != list(wanted[:3]):
        raise ValueError(
            f"FSSD takes maps of {list(wanted[:3])} positions at {image_size} pixels, but the network's are {found}"
        )
    return wanted


def answers(F, maps, *heads):
    """Return what every kind of heads says of all maps: (N, P, values) each."""
    return tuple(F.concat(*(head(x) for head, x in zip(kind, maps)), dim=1) for kind in heads)


def form_for(classes: Classes, form: Optional[str]) -> str:
    """Return 'voc' or 'coco'; without `form`, 80 classes mean the latter. Raises ValueError for another form."""
    number = classes if isinstance(classes, int) else len(classes)
    form = ("coco" if number == 80 else "voc") if form is None else form
    if form not in SIZES:
        raise ValueError(f"form is {shortened(form)}; choose one of {', '.join(SIZES)}")
    return form


class FSSD(Detector):
    """FSSD on any network: images (N, in_channels, side, side) -> boxes, scores, classes.

    Args:
        net: The network to stand on, a width of a slimmable one among them; its blocks, with their weights if it has
            any, become those of the detector.
        classes: Number of the classes, the background not counted, or their names.
        taps: The maps of strides 8, 16 and 32, see `ClassificationNet.extract`.
        form: Whose anchors: 'voc' or 'coco'; None: 'coco' for 80 classes, else 'voc'.
        selection: How detections are chosen; None: as PytorchSSD does.
        image_size: Side of the images, in pixels: 300 as published, or another one, below 257 with fewer maps.
        definition: Further entries of `definition()`.

    Raises:
        ValueError: For another form, or a network whose maps have other strides.

    Example:
        >>> net = FSSD(get_model("ds_mobilenet_v1").subnet(0), classes=20)
    """

    preprocessing = Preprocessing((123.68, 116.78, 103.94), (1.0, 1.0, 1.0), "bgr")
    predictor_class: Callable[[ClassificationNet, Sequence[Tap], int, int], Predictor] = FSSDPredictor

    def __init__(
        self,
        net: ClassificationNet,
        classes: Classes,
        taps: Sequence[Tap] = TAPS,
        *,
        form: Optional[str] = None,
        selection: Optional[Selection] = None,
        image_size: int = SIDE,
        definition: Optional[Mapping[str, Any]] = None,
        **kwargs,
    ):
        form, count = form_for(classes, form), classes if isinstance(classes, int) else len(classes)
        levels = fssd_levels(form, image_size)  # refuses sizes, before a map is asked for one
        super().__init__(
            self.predictor_class(net, taps, count, image_size),
            anchor_boxes(levels),
            classes,
            image_size,
            selection or SELECTIONS[form],
            {**base_definition(net), "form": form, **(definition or {})},
            net.in_channels,
            **kwargs,
        )
        self.form = form

    def active_shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Return {name of a Parameter: shape of the part of it that a width uses}: none but of a slimmable network."""
        return active_shapes(self)


def active_shapes(block: Block) -> Dict[str, Tuple[int, ...]]:
    """Return {name of a Parameter: shape of the part of it that views within a block use}, without BN statistics."""
    shapes: Dict[str, Tuple[int, ...]] = {}

    def add(layer: Block) -> None:
        for name, shape in getattr(layer, "active", {}).items():
            shapes[layer._reg_params[name].name] = shape

    block.apply(add)
    return shapes


def build(name: str, classes: Classes, pretrained_base: Any = False, ctx=mx.cpu(), **options) -> FSSD:
    """Return a FSSD300 on a network by name; `options` are those of `FSSD` and of the network."""
    own = {key: options.pop(key) for key in OPTIONS if key in options}
    return FSSD(base_network(name, pretrained_base, ctx, options), classes, **own)


@register_detector(base="mobilenet_v1_x1_0", source=PYTORCH_SSD, image_size=SIDE)
def fssd300_mobilenet_v1(classes: Classes, *args, **options) -> FSSD:
    """FSSD300 on MobileNetV1, PytorchSSD's FSSD_mobile: what DS-Net's authors compare theirs with.

    `form`: 'voc' or 'coco', whose anchors. `image_size`: 300, or another one.
    """
    return build("mobilenet_v1_x1_0", classes, *args, **options)


@register_detector(
    base="mobilenet_v1_x0_25", image_size=SIDE, reconstruction="PytorchSSD has it on MobileNetV1 1.0 alone"
)
def fssd300_mobilenet_v1_x0_25(classes: Classes, *args, **options) -> FSSD:
    """FSSD300 on MobileNetV1 0.25. `image_size`: 300, or another one."""
    return build("mobilenet_v1_x0_25", classes, *args, **options)
