"""The SSDLite320 detectors: those of MobileNeXt's authors, torchvision's, and ours in their manner.

=============================  ==========================  ===============================================
detector                       maps of the network         numbers of
=============================  ==========================  ===============================================
ssdlite320_mobilenext_x1_0     expansions of block 13      houqb/ssdlite-pytorch-mobilenext, which the
                               (576) and 20 (1280)         authors of MobileNeXt name
ssdlite320_mobilenet_v2_x1_0   block 13 (96) and the last  the same repository
                               1x1 convolution (1280)
ssdlite320_mobilenet_v3_large  expansion of block 13       torchvision
                               (672), last 1x1 (480)
ssdlite320_mobilenext_x0_35    as at width 1.0             ours
ssdlite320_idle_mbv3           as of MobileNetV3-Large     ours
=============================  ==========================  ===============================================

The third-party repository has two forms of a detector. `form='voc'` is scored by softmax and has 3,234 anchors;
`form='coco'` has other second squares, 4 anchors at the last position (3,232), sigmoid scores and another selection.
Without `form`, 80 classes mean the latter. Its MobileNetV2 is tapped behind a block, not within one, so that its first
heads read 96 channels, and those of MobileNeXt 576.

torchvision trains its detector from scratch, and then halves the last stage of MobileNetV3 (`reduced_tail`); on
ImageNet weights it keeps the whole network. The same rule holds here, where nothing else is asked for.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import mxnet as mx
from mxnet.gluon.block import HybridBlock

from ..files.text import shortened
from ..models import ClassificationNet, Preprocessing
from ..models.taps import Tap
from ..nn import BlockStyle, ConvChain, MBBlock, Norm, Unit
from .anchors import AnchorLevel
from .backbone import base_network
from .boxes import Selection
from .losses import Focal
from .registry import register_detector
from .ssdlite import Form, SSDLite

__all__ = [
    "ThirdPartySSDLite",
    "TorchvisionSSDLite",
    "ssdlite320_idle_mbv3",
    "ssdlite320_mobilenet_v2_x1_0",
    "ssdlite320_mobilenet_v3_large",
    "ssdlite320_mobilenext_x0_35",
    "ssdlite320_mobilenext_x1_0",
]

SIDE = 320
SIDES = (20, 10, 5, 3, 2, 1)
Classes = Union[int, Sequence[str]]

THIRD_PARTY = "houqb/ssdlite-pytorch-mobilenext"
TORCHVISION = "torchvision"
# Of images in 0..255: the mean alone is subtracted.
MEAN_ALONE = Preprocessing((123.0, 117.0, 104.0), (1.0, 1.0, 1.0))
TO_ONE = Preprocessing((127.5,) * 3, (127.5,) * 3)
# Steps of 120 pixels on the map of 3 are the repository's, where 320 / 3 would cover the image evenly.
STEPS = (16, 32, 64, 120, 160, 320)
MIN_SIZES = (45, 90, 135, 180, 225, 270)
SECOND_SIZES = {"voc": (120, 180, 220, 260, 300, 320), "coco": (90, 135, 180, 225, 270, 315)}
SELECTIONS = {"voc": Selection(), "coco": Selection(0.05, 0.5, scores="sigmoid")}
# The repository gives the classes five times the weight of the offsets, and of all 81 logits it has the last one learn
# that nothing is there, where ours is the first.
FOCAL: Dict[str, Any] = {
    "criterion": Focal(0.25, 2.0, weight=5.0),
    "class_init": mx.init.Normal(0.01),
    "class_prior": 0.01,
}
V3_NORM = Norm(epsilon=1e-3, momentum=0.97)
# A side of an anchor grows by 1000 / 16 at most.
V3_SELECTION = Selection(0.001, 0.55, 300, 300, largest_growth=1000 / 16, inside=True)
# Widths of the extra layers, and their hidden widths as shares of the input.
NEXT_EXTRAS = ((512, 0.2), (256, 0.25), (256, 0.5), (128, 0.5))
V2_EXTRAS = ((512, 0.2), (256, 0.5), (256, 0.5), (64, 0.5))


def _third_party_levels(form: str) -> List[AnchorLevel]:
    lengths = zip(SIDES, STEPS, MIN_SIZES, SECOND_SIZES[form])
    levels = [AnchorLevel(side, step / SIDE, size / SIDE, second / SIDE) for side, step, size, second in lengths]
    if form == "coco":
        levels[-1] = levels[-1]._replace(ratios=(2,))
    return levels


def _torchvision_levels() -> List[AnchorLevel]:
    scales = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
    return [AnchorLevel(side, 1 / side, *pair) for side, pair in zip(SIDES, zip(scales, scales[1:]))]


def _next_extras(in_channels: int, norm: Norm) -> List[HybridBlock]:
    layers: List[HybridBlock] = []
    for out, ratio in NEXT_EXTRAS:
        first = Unit(in_channels, 3, 2, "relu6", depthwise=True)
        units = (first, Unit(int(in_channels * ratio)), Unit(out, act="relu6"))
        layers.append(ConvChain(in_channels, units, style=BlockStyle(norm)))
        in_channels = out
    return layers


def _v2_extras(in_channels: int, norm: Norm) -> List[HybridBlock]:
    layers: List[HybridBlock] = []
    for out, ratio in V2_EXTRAS:
        hidden = int(round(in_channels * ratio))
        layers.append(MBBlock(in_channels, hidden, out, stride=2, act="relu6", style=BlockStyle(norm)))
        in_channels = out
    return layers


def _v3_extras(in_channels: int, norm: Norm) -> List[HybridBlock]:
    layers: List[HybridBlock] = []
    for out in (512, 256, 256, 128):
        half = Unit(out // 2, act="relu6")
        units = (half, Unit(out // 2, 3, 2, "relu6", depthwise=True), Unit(out, act="relu6"))
        layers.append(ConvChain(in_channels, units, style=BlockStyle(norm)))
        in_channels = out
    return layers


class ThirdPartySSDLite(SSDLite):
    """SSDLite320 as in the repository that the authors of MobileNeXt name.

    Args:
        net: The network to stand on.
        taps: Where its maps are taken, see `ClassificationNet.extract`.
        extras: Makes the extra layers.
        classes: Number of the classes, the background not counted, or their names.
        form: 'voc' or 'coco'; None: 'coco' for 80 classes, else 'voc'.
        selection: How detections are chosen; None: as the form has it.

    Raises:
        ValueError: For another form.
    """

    preprocessing = MEAN_ALONE

    def __init__(
        self,
        net: ClassificationNet,
        taps: Sequence[Tap],
        extras: Callable[[int, Norm], List[HybridBlock]],
        classes: Classes,
        form: Optional[str] = None,
        selection: Optional[Selection] = None,
    ):
        number = classes if isinstance(classes, int) else len(classes)
        form = ("coco" if number == 80 else "voc") if form is None else form
        if form not in SELECTIONS:
            raise ValueError(f"form is {shortened(form)}; choose one of {', '.join(SELECTIONS)}")
        numbers = Form(
            taps,
            extras,
            _third_party_levels(form),
            plain_last_head=True,
            head_bias=True,
            selection=selection or SELECTIONS[form],
            **(FOCAL if form == "coco" else {}),
        )
        super().__init__(net, numbers, classes, image_size=SIDE, definition={"form": form})


class TorchvisionSSDLite(SSDLite):
    """SSDLite320 as in torchvision, on MobileNetV3-Large or what has its last stage and its head.

    Args:
        net: The network to stand on.
        classes: Number of the classes, the background not counted, or their names.
        selection: How detections are chosen; None: as torchvision does.
    """

    preprocessing = TO_ONE

    def __init__(self, net: ClassificationNet, classes: Classes, selection: Optional[Selection] = None):
        normal = mx.init.Normal(0.03)
        numbers = Form(
            ["expansion", "head"],
            _v3_extras,
            _torchvision_levels(),
            V3_NORM,
            init=normal,
            base_init=normal,
            selection=selection or V3_SELECTION,
        )
        super().__init__(net, numbers, classes, image_size=SIDE)


def _third_party(
    name: str,
    taps,
    extras,
    classes: Classes,
    pretrained_base: Any = False,
    ctx=mx.cpu(),
    *,
    form: Optional[str] = None,
    selection: Optional[Selection] = None,
    **options,
) -> SSDLite:
    """`form` : 'voc' or 'coco', see `ThirdPartySSDLite`; `options` are those of the network."""
    return ThirdPartySSDLite(base_network(name, pretrained_base, ctx, options), taps, extras, classes, form, selection)


def _on_mobilenet_v3(
    name: str,
    classes: Classes,
    pretrained_base: Any = False,
    ctx=mx.cpu(),
    *,
    reduced_tail: Optional[bool] = None,
    selection: Optional[Selection] = None,
    **options,
) -> SSDLite:
    """`reduced_tail` : half the channels in the last stage; None: unless there are weights of a whole network."""
    reduced = not pretrained_base if reduced_tail is None else reduced_tail
    own: Dict[str, Any] = {"bn_momentum": V3_NORM.momentum}
    if reduced:  # said only where it is so, as files of whole networks know no such option
        own["reduced_tail"] = True
    if not pretrained_base:  # else that of the weights
        own["bn_epsilon"] = V3_NORM.epsilon
    return TorchvisionSSDLite(base_network(name, pretrained_base, ctx, {**own, **options}), classes, selection)


_NEXT_TAPS = ["expansion", "-1.-1.expansion"]


@register_detector(base="mobilenext_x1_0", source=THIRD_PARTY)
def ssdlite320_mobilenext_x1_0(classes: Classes, *args, **options) -> SSDLite:
    """SSDLite320 on MobileNeXt 1.0: 3.48 M parameters, 708.7 M MAdds at 20 classes; 4.54 M, 843.6 M at 80."""
    return _third_party("mobilenext_x1_0", _NEXT_TAPS, _next_extras, classes, *args, **options)


@register_detector(base="mobilenet_v2_x1_0", source=THIRD_PARTY)
def ssdlite320_mobilenet_v2_x1_0(classes: Classes, *args, **options) -> SSDLite:
    """SSDLite320 on MobileNetV2 1.0: 3.43 M parameters, 682.4 M MAdds at 20 classes; 4.30 M, 748.2 M at 80."""
    return _third_party("mobilenet_v2_x1_0", [3, "head"], _v2_extras, classes, *args, **options)


@register_detector(base="mobilenet_v3_large", source=TORCHVISION, classes=90)
def ssdlite320_mobilenet_v3_large(classes: Classes, *args, **options) -> SSDLite:
    """SSDLite320 on MobileNetV3-Large, torchvision's: 3.44 M parameters at 90 classes, from scratch."""
    return _on_mobilenet_v3("mobilenet_v3_large", classes, *args, **options)


@register_detector(base="idle_mbv3", reconstruction="torchvision's detector, with MBBlocks exchanged for IdleBlocks")
def ssdlite320_idle_mbv3(classes: Classes, *args, **options) -> SSDLite:
    """SSDLite320 on `idle_mbv3`, by the numbers of torchvision's on MobileNetV3-Large."""
    return _on_mobilenet_v3("idle_mbv3", classes, *args, **options)


@register_detector(
    base="mobilenext_x0_35", reconstruction="the authors have it at width 1.0 alone; extra layers are as there"
)
def ssdlite320_mobilenext_x0_35(classes: Classes, *args, **options) -> SSDLite:
    """SSDLite320 on MobileNeXt 0.35, with the extra layers and heads of width 1.0."""
    return _third_party("mobilenext_x0_35", _NEXT_TAPS, _next_extras, classes, *args, **options)
