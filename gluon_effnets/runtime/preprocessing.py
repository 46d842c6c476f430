"""Preprocessing: what weights want done to an image."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

__all__ = ["CHANNEL_ORDERS", "Preprocessing"]

CHANNEL_ORDERS = ("rgb", "bgr")


class Preprocessing(NamedTuple):
    """How an image becomes input: resized, cropped to its center, normalized; the default normalizes as ImageNet's.

    Attributes:
        mean: What is subtracted from pixels of 0..255: of red, green and blue, in this sequence for both orders.
        std: What the difference is divided by, in the same sequence.
        channel_order: 'rgb' or 'bgr', of the network's input.
        interpolation: How an image is resized; None: as is usual for the model (`ModelInfo`).
        crop: The shorter side gets `image_size` / `crop` pixels; None: as is usual for the model.
        image_size: Side of the central square that is left, in pixels; None: as is usual for the model.
        crop_first: Whether the central square of `crop` times the shorter side is cut out first and then resized, as
            TensorFlow's EfficientNets do it.
    """

    mean: Tuple[float, ...] = (123.68, 116.779, 103.939)
    std: Tuple[float, ...] = (58.393, 57.12, 57.375)
    channel_order: str = "rgb"
    interpolation: Optional[str] = None
    crop: Optional[float] = None
    image_size: Optional[int] = None
    crop_first: bool = False

    def __str__(self) -> str:
        scaled = any(self.mean) or any(value != 1 for value in self.std)
        scale = f"minus mean {_numbers(self.mean)}, by std {_numbers(self.std)}" if scaled else "not normalized"
        parts = [f"{'grey' if len(self.mean) == 1 else self.channel_order.upper()} 0..255", scale]
        parts += [f"{self.image_size} pixels"] if self.image_size else []
        parts += [f"crop {self.crop:g}{' before resizing' * self.crop_first}"] if self.crop else []
        return ", ".join(parts + ([self.interpolation] if self.interpolation else []))

    @property
    def normalization(self) -> Preprocessing:
        """What is done to the pixels alone: mean, std and the order of the channels."""
        return Preprocessing(*self[:3])


def _numbers(values: Tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
