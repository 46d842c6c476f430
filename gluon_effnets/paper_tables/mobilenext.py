"""The tables of MobileNeXt (arXiv 2007.02269) that could be read."""

from __future__ import annotations

from .table import PaperTable, Row

__all__ = ["TABLES"]

PAPER = "arXiv 2007.02269"
README = "README of yitu-opensource/MobileNeXt"
ARTICLE = "Paperspace's article on arXiv 2007.02269"
COSTS = ("parameters", "top-1")
WIDTHS = ("1.4", "1.0", "0.75", "0.5", "0.35")
PHONE = "Pixel 4XL, PyTorch Mobile, CPU"
RULES = ("conv_fc", "conv_fc_relu_pool")


def _widths(label: str, name: str):
    return tuple(Row(f"{label}-{width}", f"{name}_x{width}".replace(".", "_")) for width in WIDTHS)


TABLES = (
    PaperTable(
        PAPER,
        1,
        "width multipliers, beside MobileNetV2",
        (*_widths("MobileNetV2", "mobilenet_v2"), *_widths("MobileNeXt", "mobilenext")),
        COSTS,
        "Parameters of MobileNeXt-1.0 and -0.5 differ between the paper and the README. 690 M and 150 M are not what "
        "MobileNetV2 costs at 1.4 and 0.75.",
        RULES,
        "figure 1",
        (README, f"a picture of {PAPER}, figure 1"),
    ),
    PaperTable(
        PAPER,
        2,
        "where depthwise convolutions and shortcut stand",
        (
            Row("MobileNetV2", "mobilenet_v2_x1_0"),
            Row("(a)", "mobilenext_fig4a"),
            Row("(b)", "mobilenext_fig4b"),
            Row("(c)", "mobilenext_fig4c"),
            Row("(d) SandGlass", "mobilenext_x1_0"),
        ),
        COSTS,
        "There is no official code for (a).",
        RULES,
        "ablation of figure 4",
        (f"a picture of {PAPER}, ablation of figure 4",),
    ),
    PaperTable(
        PAPER,
        3,
        "identity tensor multiplier",
        (
            Row("1", "mobilenext_x1_0"),
            *(Row(f"1/{divisor}", "mobilenext_x1_0", divisor=divisor) for divisor in (2, 3, 4)),
        ),
        ("top-1", PHONE),
        "A divisor changes neither parameters nor multiply-adds. The last row may be 1/6 in the paper. "
        "python -m gluon_effnets benchmark shortcut measures here.",
        RULES,
        "README",
        (README, f"{README} (the paper's fourth row may be 1/6)"),
    ),
    PaperTable(
        PAPER,
        4,
        "other networks, some with squeeze-and-excitation",
        (
            Row("MobileNetV1-1.0", "mobilenet_v1_x1_0"),
            Row("ShuffleNetV2-1.5", "shufflenet_v2_x1_5"),
            Row("MobileNetV2-1.0", "mobilenet_v2_x1_0"),
            Row("MnasNet-A1"),
            Row("MobileNetV3-L-0.75"),
            Row("ProxylessNAS"),
            Row("FBNet-B"),
            Row("IGCV3-D"),
            Row("GhostNet-1.3"),
            Row("EfficientNet-B0", "efficientnet_b0"),
            Row("MobileNeXt-1.0", "mobilenext_x1_0"),
            Row("MobileNeXt-1.0 (dagger)", "mobilenext_s"),
            Row("MobileNeXt-1.1 (dagger)", "mobilenext_l"),
        ),
        COSTS,
        "The rows without a model are not in the package.",
        RULES,
        "table of comparisons",
        (f"{ARTICLE}, table of comparisons",),
    ),
    PaperTable(
        PAPER,
        5,
        "SSDLite320",
        (Row("SSD300, VGG"), Row("MobileNetV2", "mobilenet_v2_x1_0"), Row("MobileNeXt", "mobilenext_x1_0")),
        ("VOC2007 mAP", "COCO AP"),
        "Computed are the classifiers at 224 x 224; the detectors are in docs/detection.md. The table of the paper has "
        "VOC alone, COCO came with the code.",
        RULES,
        "table of detectors",
        (f"{ARTICLE}, table of detectors", "README of houqb/ssdlite-pytorch-mobilenext"),
    ),
    PaperTable(
        PAPER,
        6,
        "further networks of the authors' code",
        (
            Row("i2rnetv3_more_1x1", "mobilenext_extra_1x1"),
            Row("i2rnetv4", "mobilenext_bottleneck_se"),
            Row("i2rnetv3_rm_3x3", "mobilenext_without_first_dw"),
            Row("i2rnet_low_id", "mobilenext_low_identity"),
            Row("i2rnetv5", "mobilenext_low_shortcut"),
            Row("i2rnet", "mobilenext_ratio_4"),
            Row("MobileNetV2 with one more depthwise convolution", "mobilenet_v2_extra_dw"),
        ),
        (),
        "No accuracy of these was published.",
        RULES,
        "yitu-opensource/MobileNeXt",
    ),
)
