"""Inputs of networks as the pictures that they were before."""

from __future__ import annotations

import numpy as np

from ..models import Preprocessing

__all__ = ["as_pixels"]


def as_pixels(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """A network's input (C, H, W) as what it was before: (H, W, C) of 0..255 in RGB, or (H, W) for one channel."""
    step = -1 if preprocessing.channel_order == "bgr" else 1
    pixels = image.transpose(1, 2, 0)[..., ::step] * np.array(preprocessing.std) + np.array(preprocessing.mean)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).squeeze()
