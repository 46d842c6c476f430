"""Receptive fields of networks with IdleBlocks: what the channels of every block can see of the image, and do see."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd

from ..models import get_model, model_info
from ..models.mbnet import MBNet
from ..pictures import load_pyplot, save_picture
from ..tables import Table

__all__ = [
    "FieldRow",
    "compare_orders",
    "draw_fields",
    "effective_field",
    "effective_side",
    "field_table",
    "receptive_fields",
]

Drawn = Tuple[str, Sequence["FieldRow"], Optional[np.ndarray]]
SHARE = 0.95  # of the gradient, that the effective side holds


class FieldRow(NamedTuple):
    """A block of the network, behind which channels see squares of the image.

    Attributes:
        block: Its number from 1; 0: the stem.
        kind: 'stem', 'MB', 'left' or 'right' (an IdleBlock by its active side).
        kernel: Of the depthwise convolution.
        stride: From the image to its map.
        left: Side of the square that the first channels see, in pixels.
        right: Side of the square that the others see.
    """

    block: int
    kind: str
    kernel: int
    stride: int
    left: int
    right: int


def receptive_fields(net: Any) -> List[FieldRow]:
    """Return what the two parts of the channels can see behind every block.

    An MBBlock mixes all channels, so that each sees what any saw before; an IdleBlock adds to its active part alone;
    a channel shuffle gives both parts channels of both. Squeeze-and-excitation, which sees the whole image through a
    mean, is left out.

    Args:
        net: A network of MBBlocks and IdleBlocks: MobileNetV2, MobileNetV3, EfficientNet and their hybrids.

    Raises:
        ValueError: For another network.
    """
    if not isinstance(net, MBNet):
        name = net.info.name if getattr(net, "info", None) else type(net).__name__
        raise ValueError(
            f"{name} has no MBBlocks: receptive fields are those of idle_*, mobilenet_v2_*, mobilenet_v3_* and "
            "efficientnet_*"
        )
    stem = net.stages[0][0]
    stride, left = stem.stride, stem.kernel
    right = left
    rows = [FieldRow(0, "stem", stem.kernel, stride, left, right)]
    for number, row in enumerate(net.arch.rows, 1):
        more = (row.kernel - 1) * stride
        if row.idle is None:
            left = right = max(left, right) + more
        elif row.idle == "left":
            left += more
        else:
            right += more
        if row.idle is not None and net.arch.shuffle:
            left = right = max(left, right)
        stride *= row.stride
        rows.append(FieldRow(number, row.idle or "MB", row.kernel, stride, left, right))
    return rows


def field_table(nets: Sequence[Tuple[str, Sequence[FieldRow]]]) -> Table:
    """The rows of several networks, each with its title, as a table."""
    columns = ["network", "block", "kind", "kernel", "stride", "left, pixels", "right, pixels"]
    return Table(columns, [(title, *row) for title, rows in nets for row in rows])


def effective_field(net: Any, image_size: int, images: int = 8, seed: int = 0) -> np.ndarray:
    """Return how much the middle of the last map depends on every pixel: the mean size of its gradient, 1 at most.

    Args:
        net: An initialized network.
        image_size: Side of the square images of random pixels.
        images: Their number.
        seed: Of the pixels.

    Returns:
        (image_size, image_size), divided by its largest value.

    Source: Luo et al., Understanding the Effective Receptive Field in Deep CNNs, arXiv 1701.04128.
    """
    shape = (images, net.in_channels, image_size, image_size)
    x = mx.nd.array(np.random.RandomState(seed).standard_normal(shape))
    x.attach_grad()
    with autograd.record(train_mode=False):
        maps = net.extract(x, [-1])[0]
        middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]
    # Of every channel by itself signs would cancel; random weights of the sum leave none out.
    weights = mx.nd.array(np.random.RandomState(seed + 1).standard_normal(middle.shape))
    middle.backward(weights, train_mode=False)
    size = np.abs(x.grad.asnumpy()).mean(axis=(0, 1))
    return size / size.max()


def effective_side(field: np.ndarray) -> int:
    """The side of the smallest square around the middle of `effective_field` that holds 95 % of it."""
    center = np.unravel_index(field.argmax(), field.shape)
    total = field.sum()
    for half in range(max(field.shape)):
        rows, columns = (slice(max(0, middle - half), middle + half + 1) for middle in center)
        if field[rows, columns].sum() >= SHARE * total:
            return 2 * half + 1
    return max(field.shape)


def compare_orders(
    name: str,
    orders: Optional[Sequence[str]] = None,
    weights: Optional[str] = None,
    image_size: Optional[int] = None,
    images: int = 8,
    options: Optional[Dict[str, Any]] = None,
) -> Tuple[List[Drawn], int]:
    """Return what `draw_fields` takes, of a network with each of several orders, and the side of its images.

    Args:
        name: The model.
        orders: Of the active sides of its IdleBlocks; None: left and alternate, of trained weights or networks without
            IdleBlocks the one that they have.
        weights: A file of trained weights, which have one order; None: random ones.
        image_size: Side of the images; None: the model's.
        images: Their number.
        options: Of the network.

    Raises:
        ValueError: For a network without MBBlocks, several orders of the same weights, and fewer than one image.
    """
    options, size = dict(options or {}), image_size or model_info(name).input_size
    if images < 1:
        raise ValueError(f"{images} images show nothing: take at least 1")
    has_idle = model_info(name).family == "idle"
    if orders and not has_idle:
        raise ValueError(f"{name} has no IdleBlocks, whose sides have an order: leave --orders out")
    if weights and orders and len(orders) > 1:
        raise ValueError("trained weights have one order of the active sides: name one, or leave the weights out")
    if has_idle and not orders and not weights and "order" not in options:
        orders = ("left", "alternate")
    found: List[Drawn] = []
    for order in orders or (None,):
        told = {**options, **({} if order is None else {"order": order})}
        net = get_model(name, pretrained=weights or False, **told)
        rows = receptive_fields(net)
        if not weights:
            mx.random.seed(0)
            net.initialize()
        title = name if order is None else f"{name}, {order}"
        found.append((title, rows, effective_field(net, size, images)))
    return found, size


def draw_fields(nets: Sequence[Drawn], picture, image_size: int) -> None:
    """Draw what the parts of the channels can see, block by block, and the measured field of the last map.

    Args:
        nets: Of every network its title, `receptive_fields`, and `effective_field` or None.
        picture: The PNG file to write.
        image_size: Side of the images.
    """
    pyplot = load_pyplot("receptive fields")
    measured = [net for net in nets if net[2] is not None]
    figure, axes = pyplot.subplots(1, 1 + len(measured), figsize=(6 + 4 * len(measured), 4), squeeze=False)
    for number, (title, rows, _) in enumerate(nets):
        blocks, color = [row.block for row in rows], f"C{number}"
        axes[0, 0].plot(blocks, [row.left for row in rows], color=color, label=f"{title}, first channels")
        axes[0, 0].plot(blocks, [row.right for row in rows], "--", color=color, label=f"{title}, other channels")
    axes[0, 0].axhline(image_size, color="gray", lw=0.8)
    axes[0, 0].set(xlabel="block", ylabel="side of the receptive field, pixels")
    axes[0, 0].legend(fontsize=7)
    for axis, (title, _, field) in zip(axes[0, 1:], measured):
        assert field is not None
        axis.imshow(np.sqrt(field), cmap="magma")
        axis.set_title(f"{title}: {effective_side(field)} pixels hold {SHARE:.0%}", fontsize=8)
        axis.set_axis_off()
    figure.tight_layout()
    save_picture(figure, picture)
