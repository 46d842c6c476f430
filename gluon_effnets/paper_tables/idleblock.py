"""The tables of IdleBlock (arXiv 1911.08609), of which few numbers could be read."""

from __future__ import annotations

from .table import PaperTable, Row

__all__ = ["TABLES"]

PAPER = "arXiv 1911.08609"
ARTICLE = "an overview article of arXiv 1911.08609"
NOTES = "public reading notes on arXiv 1911.08609, the only source"
GLUONCV = "GluonCV model zoo, mobilenetv3_large (head without bias)"
SMALL = "GluonCV model zoo, mobilenetv3_small (head 1280 without bias)"
BASELINE = ("arXiv 1905.02244", "arXiv 1905.02244; the TensorFlow slim README says 217 M")
RULES = ("conv_fc", "conv_fc_relu_pool")
NOTE = "The tables are pictures that could not be read; these are the numbers that texts give."

TABLES = (
    PaperTable(
        PAPER,
        1,
        "hybrid compositions of MobileNetV3",
        (
            Row("MobileNetV3-Large", "mobilenet_v3_large"),
            Row("maximum, M=6, I=9", "idle_mbv3_maximum"),
            Row("equal cost, M=10, I=10", "idle_mbv3"),
            Row("M=15, I=20", "idle_mbv3_m15_i20"),
            Row("MobileNetV3-Small", "mobilenet_v3_small"),
            Row("maximum, M=5, I=6", "idle_mbv3_small_maximum"),
            Row("equal cost, M=5, I=12", "idle_mbv3_small"),
            Row("M=11, I=15", "idle_mbv3_small_m11_i15"),
        ),
        (
            "parameters",
            "top-1",
            "MAdds against MobileNetV3",
            "top-1 against MobileNetV3",
            "top-1 against MobileNetV3 at equal MAdds",
        ),
        f"{NOTE} Placements are reconstructions.",
        RULES,
        "MobileNetV3",
        (ARTICLE, NOTES, GLUONCV, SMALL, *BASELINE),
    ),
    PaperTable(
        PAPER,
        2,
        "hybrid compositions of EfficientNet-B0",
        (
            Row("EfficientNet-B0", "efficientnet_b0"),
            Row("maximum, M=7, I=9", "idle_efficientnet_b0_maximum"),
            Row("equal cost, M=11, I=10", "idle_efficientnet_b0"),
        ),
        (),
        "No number of this table could be read.",
        RULES,
        "EfficientNet-B0",
    ),
)
