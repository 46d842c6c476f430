"""The tables of CondenseNetV2 (arXiv 2104.04382) as far as the authors' READMEs have them."""

from __future__ import annotations

from .table import PaperTable, Row

__all__ = ["TABLES"]

PAPER = "arXiv 2104.04382"
README = "README of jianghaojun/CondenseNetV2"
FIRST = "README of ShichenLiu/CondenseNet"
MEGVII = ("README of megvii-model/ShuffleNet-Series", "arXiv 1807.11164, table 5")
FASTER, RETINA = (f"COCO mAP, {detector}" for detector in ("Faster R-CNN", "RetinaNet"))
RULES = ("conv_fc", "condensenetv2")
CONDENSED = "Counted as deployed, after condensing; the authors' rule counts ReLU, pooling and sigmoid, too."


def _shufflenet(scale: str) -> Row:
    return Row(f"ShuffleNetV2 {scale}x", f"shufflenet_v2_x{scale}".replace(".", "_"))


TABLES = (
    PaperTable(
        PAPER,
        1,
        "networks for ImageNet",
        (
            Row("CondenseNetV2-A", "condensenet_v2_a"),
            _shufflenet("0.5"),
            Row("CondenseNetV2-B", "condensenet_v2_b"),
            _shufflenet("1.0"),
            Row("CondenseNetV2-C", "condensenet_v2_c"),
            _shufflenet("1.5"),
            Row("CondenseNet-74, G = C = 8", "condensenet_74_c8"),
            Row("CondenseNet-74, G = C = 4", "condensenet_74_c4"),
        ),
        ("parameters", "top-1 error"),
        CONDENSED,
        RULES,
        "ImageNet",
        (README, FIRST, *MEGVII),
    ),
    PaperTable(
        PAPER,
        2,
        "networks for CIFAR-10 and CIFAR-100",
        (
            *(Row(f"CondenseNet-{n}", f"cifar_condensenet_{n}") for n in (50, 74, 86, 98, 110, 122, 182)),
            *(Row(f"CondenseNetV2-{n}", f"cifar_condensenet_v2_{n}") for n in (110, 146)),
        ),
        ("parameters", "CIFAR-10 error", "CIFAR-100 error"),
        f"{CONDENSED} CondenseNet-182: 600 epochs. The configuration of CondenseNetV2-110 and -146 is not published: "
        "the networks here are reconstructions, and their costs are others.",
        ("conv_fc", "condensenet"),
        "CIFAR",
        (README, FIRST, f"{FIRST} (600 epochs)"),
    ),
    PaperTable(
        PAPER,
        3,
        "object detection on COCO",
        (
            _shufflenet("0.5"),
            Row("CondenseNetV2-A", "condensenet_v2_a"),
            _shufflenet("1.0"),
            Row("CondenseNetV2-B", "condensenet_v2_b"),
            Row("MobileNet 1.0x", "mobilenet_v1_x1_0"),
            _shufflenet("1.5"),
            Row("CondenseNetV2-C", "condensenet_v2_c"),
        ),
        ("MAdds of the backbone", FASTER, RETINA),
        "Detection is quoted; computed are the classifiers at 224 x 224.",
        RULES,
        "COCO",
        (f"{README}, COCO",),
    ),
    PaperTable(
        PAPER,
        4,
        "SFR in ShuffleNetV2",
        (
            *(_shufflenet(scale) for scale in ("0.5", "1.0", "1.5")),
            *(
                Row(f"SFR-ShuffleNetV2 {scale}x", f"sfr_shufflenet_v2_x{scale}".replace(".", "_"))
                for scale in ("0.5", "1.0", "1.5")
            ),
        ),
        ("parameters", "top-1 error"),
        "No number of SFR-ShuffleNetV2 could be read, and no code was released.",
        RULES,
        "SFR-ShuffleNetV2",
        MEGVII,
    ),
    PaperTable(
        PAPER,
        5,
        "modules of CondenseNetV2-A, one by one",
        (
            Row("CondenseNetV2-A", "condensenet_v2_a"),
            Row("without reactivations", "condensenet_v2_a_without_sfr"),
            Row("without squeeze-and-excitation", "condensenet_v2_a_without_se"),
            Row("with ReLU for h-swish", "condensenet_v2_a_without_hard_swish"),
            Row("growth 16 in every block", "condensenet_v2_a_growth_16"),
        ),
        (),
        "The paper's table of ablations could not be read: what is left out of which network is ours.",
        RULES,
        "ablation",
    ),
)
