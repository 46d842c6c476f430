"""Preprocessing: what weights want done to an image, and what is usual."""

from __future__ import annotations

from ..runtime.preprocessing import CHANNEL_ORDERS, Preprocessing

__all__ = ["CHANNEL_ORDERS", "RAW_BGR", "TORCH_IMAGENET", "Preprocessing"]

# What torchvision and timm normalize with, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) on the scale 0..1. The
# default is that of GluonCV's recipe for ImageNet, which is rounded otherwise.
TORCH_IMAGENET = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# Of the checkpoints of megvii-model/ShuffleNet-Series.
RAW_BGR = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bgr")
