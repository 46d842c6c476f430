"""Exported files in 8 bits, for MXNet and ONNX Runtime, and how far their logits are from those in float32."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np

from .to_mxnet.files import write_symbol_files
from .to_mxnet.int8 import quantize
from .to_onnx.files import write_onnx_file
from .to_onnx.int8 import quantize_onnx_to_target, relative_difference

__all__ = ["UNUSABLE", "Int8Files", "agreement_with_float", "split_images", "write_int8_onnx", "write_int8_symbol"]

UNUSABLE = 0.5  # of the logits' standard deviation, root mean square
FEWEST_IMAGES = 8
_MXNET_LAYERS = ("_sg_mkldnn_conv", "_sg_mkldnn_fully_connected", "Convolution", "FullyConnected")


class Int8Files(NamedTuple):
    """Written files, and the names of their layers in float32."""

    files: Tuple[Path, ...]
    float_layers: List[str]


def split_images(images: Sequence[np.ndarray], shape: Tuple[int, int, int]) -> Tuple[np.ndarray, np.ndarray]:
    """Images (N, *shape) from batches, to calibrate with, and every fourth, to compare on.

    Raises ValueError for fewer than 8 images, or images of another shape.
    """
    images = [np.asarray(batch, np.float32) for batch in images]
    other = [batch.shape[1:] for batch in images if batch.shape[1:] != shape]
    if other:
        raise ValueError(f"images of shape {other[0]} cannot calibrate an export for {shape}; give image_size")
    if sum(map(len, images)) < FEWEST_IMAGES:
        raise ValueError(
            f"8 bits need at least {FEWEST_IMAGES} images, to calibrate with and to compare on; "
            f"there are {sum(map(len, images))}"
        )
    together = np.concatenate(images)
    held_out = np.arange(len(together)) % 4 == 3
    return together[~held_out], together[held_out]


def write_int8_symbol(net, images: np.ndarray, normalized, prefix: Path) -> Int8Files:
    """Write <prefix>-symbol.json and <prefix>-0000.params of MXNet's 8-bit form of a network.

    `normalized(graph, arrays)` puts before the graph what the files are to do themselves.
    """
    block = quantize(net, [mx.nd.array(images[begin : begin + 32]) for begin in range(0, len(images), 32)])
    graph = block(mx.sym.var("data"))
    arrays = {name: param.data() for name, param in block.collect_params().items()}
    nodes = json.loads(graph.tojson())["nodes"]
    in_float = [
        node["name"]
        for node in nodes
        if node["op"] in _MXNET_LAYERS and node.get("attrs", {}).get("quantized") not in ("true", "True")
    ]
    return Int8Files(write_symbol_files(*normalized(graph, arrays), prefix), in_float)


def write_int8_onnx(graph, arrays, inputs: np.ndarray, prefix: Path, batch) -> Int8Files:
    """Write <prefix>.onnx in 8 bits; `inputs` (N, C, H, W) as the graph takes them."""
    path = prefix.with_name(f"{prefix.name}.onnx")
    with tempfile.TemporaryDirectory() as folder:
        exact = write_onnx_file(graph, arrays, Path(folder) / prefix.name, inputs.shape[1:], batch)
        return Int8Files((path,), quantize_onnx_to_target(exact, path, [inputs]))


def agreement_with_float(seen: np.ndarray, exact: np.ndarray) -> Dict[str, Any]:
    """Share of equal largest logits, and the root mean square of the difference relative to the standard deviation."""
    same = (seen.argmax(axis=1) == exact.argmax(axis=1)).mean()
    return {"agreement": float(same), "difference": relative_difference(seen, exact)}
