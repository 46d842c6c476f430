"""The tables of ShuffleNetV1 (arXiv 1707.01083)."""

from __future__ import annotations

from .table import PaperTable, Row

__all__ = ["TABLES"]

PAPER = "arXiv 1707.01083"
ERROR = "top-1 error"
NO_SHUFFLE = "top-1 error with shuffle=none"
COCO = tuple(f"COCO mAP, Faster R-CNN, {size} pixels" for size in (300, 600))
PHONE = tuple(f"Snapdragon 820, one thread, {size}" for size in ("224 x 224", "480 x 640", "720 x 1280"))
GROUPS = (1, 2, 3, 4, 8)


def _shufflenet(groups: int, scale: str, suffix: str = "") -> Row:
    label = f"ShuffleNet {scale}x, g = {groups}{suffix}"
    return Row(label, f"shufflenet_v1_g{groups}_x{scale}".replace(".", "_"))


def _mobilenet(width: str, label: str = "", remark: str = "") -> Row:
    return Row(label or f"{width} MobileNet-224", f"mobilenet_v1_x{width}".replace(".", "_"), remark)


TABLES = (
    PaperTable(
        PAPER,
        1,
        "the networks, by groups",
        tuple(_shufflenet(groups, "1.0") for groups in GROUPS),
        note="The printed complexity leaves the classifier out.",
    ),
    PaperTable(
        PAPER,
        2,
        "error by groups and scale",
        tuple(_shufflenet(groups, scale) for scale in ("1.0", "0.5", "0.25") for groups in GROUPS),
        (ERROR,),
        "The printed complexity is a budget for the row. Widths at 0.25, and at 0.5 with g = 2 and 4: ours.",
    ),
    PaperTable(
        PAPER,
        3,
        "error without and with channel shuffle",
        tuple(_shufflenet(groups, scale) for scale in ("1.0", "0.5", "0.25") for groups in (3, 8)),
        (NO_SHUFFLE, ERROR),
        "The shuffle has no parameters and no multiply-adds: shuffle=none counts the same.",
    ),
    PaperTable(
        PAPER,
        4,
        "error of other structure units at equal cost",
        (
            Row("VGG-like", "vgg_like_140m"),
            Row("ResNet", "resnet_like_140m"),
            _shufflenet(1, "1.0", " (Xception-like)"),
            Row("ResNeXt", "resnext_like_140m"),
            _shufflenet(8, "1.0"),
            Row("VGG-like", "vgg_like_38m"),
            Row("ResNet", "resnet_like_38m"),
            _shufflenet(1, "0.5", " (Xception-like)"),
            Row("ResNeXt", "resnext_like_38m"),
            _shufflenet(4, "0.5"),
            Row("VGG-like", "vgg_like_13m"),
            Row("ResNet", "resnet_like_13m"),
            _shufflenet(1, "0.25", " (Xception-like)"),
            Row("ResNeXt", "resnext_like_13m"),
            _shufflenet(8, "0.25"),
        ),
        (ERROR,),
        "The printed complexity is a budget for the row. Widths: ours, fitted to 38 MFLOPs.",
    ),
    PaperTable(
        PAPER,
        5,
        "against MobileNet",
        (
            _mobilenet("1.0"),
            _shufflenet(3, "2.0"),
            Row("ShuffleNet 2.0x, g = 3, SE", "shufflenet_v1_se_g3_x2_0"),
            _mobilenet("0.75"),
            _shufflenet(3, "1.5"),
            _mobilenet("0.5"),
            _shufflenet(8, "1.0"),
            _mobilenet("0.25"),
            _shufflenet(4, "0.5"),
            Row("ShuffleNet 0.5x, g = 3, shallow", "shufflenet_v1_shallow_g3_x0_5"),
        ),
        (ERROR,),
    ),
    PaperTable(
        PAPER,
        6,
        "against popular networks of equal accuracy",
        (
            Row("VGG-16"),
            _shufflenet(3, "2.0"),
            Row("GoogLeNet", remark="BVLC"),
            _shufflenet(8, "1.0"),
            Row("AlexNet", "alexnet_caffe"),
            Row("SqueezeNet"),
            _shufflenet(4, "0.5"),
        ),
        (ERROR,),
        "AlexNet with two digits printed; VGG-16, GoogLeNet and SqueezeNet are not in the package.",
    ),
    PaperTable(
        PAPER,
        7,
        "object detection on COCO",
        (
            _shufflenet(3, "2.0"),
            _shufflenet(3, "1.0"),
            _mobilenet("1.0", "MobileNet as published", "MobileNet as published"),
            _mobilenet("1.0", "MobileNet re-implemented", "the authors' re-implementation"),
        ),
        COCO,
        "Detection is quoted, not reproduced; computed are the classifiers at 224 x 224.",
    ),
    PaperTable(
        PAPER,
        8,
        "inference on a phone",
        (
            _shufflenet(3, "0.5"),
            _shufflenet(3, "1.0"),
            _shufflenet(3, "2.0"),
            Row("AlexNet", "alexnet_caffe"),
            _mobilenet("1.0"),
        ),
        (ERROR, *PHONE),
        "Times are quoted; python -m gluon_effnets benchmark latency NAME ... measures here.",
    ),
)
