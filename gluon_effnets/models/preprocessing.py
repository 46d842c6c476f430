"""Preprocessing: what weights want done to the pixels of an image."""

from __future__ import annotations

from typing import NamedTuple, Tuple

__all__ = ["CHANNEL_ORDERS", "RAW_BGR", "Preprocessing"]

CHANNEL_ORDERS = ("rgb", "bgr")


class Preprocessing(NamedTuple):
    """What weights want done to pixels of 0..255: minus `mean`, divided by `std`; the default is ImageNet's.

    Attributes:
        mean: Of red, green and blue, in this sequence for both orders.
        std: The same.
        channel_order: 'rgb' or 'bgr', of the network's input.
    """

    mean: Tuple[float, ...] = (123.68, 116.779, 103.939)
    std: Tuple[float, ...] = (58.393, 57.12, 57.375)
    channel_order: str = "rgb"

    def __str__(self) -> str:
        scaled = any(self.mean) or any(value != 1 for value in self.std)
        scale = f"minus mean {_numbers(self.mean)}, by std {_numbers(self.std)}" if scaled else "not normalized"
        return f"{'grey' if len(self.mean) == 1 else self.channel_order.upper()} 0..255, {scale}"


# Of the checkpoints of megvii-model/ShuffleNet-Series.
RAW_BGR = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bgr")


def _numbers(values: Tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
