"""8-bit ONNX files: static quantization after training with ONNX Runtime's quantizer, and the layers that it hurts."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..._requirements import optional_import
from ...files.write import write_bytes
from ...progress import progress_bar
from ..compare import relative_difference
from ..graph.inference import StaticGraph
from .files import onnx_runner, write_onnx_file

__all__ = ["quantize_onnx", "quantize_onnx_to_target", "write_int8_onnx_detector", "write_int8_onnx_file"]

TARGET = 0.1  # of the logits' standard deviation, root mean square
SEARCH_SECONDS = 120.0
_BATCH = 32

# What ONNX Runtime computes in 8 bits on a CPU, and what moves values. All others between them would cost a change to
# float32 and back, which takes longer than the operator.
_COMPUTING = ("Conv", "Gemm", "Add", "Mul", "HardSigmoid", "Sigmoid", "Concat", "GlobalAveragePool", "AveragePool")
_MOVING = ("Clip", "Relu", "MaxPool", "Flatten", "Reshape", "Transpose", "Split", "Slice", "Gather")


def quantize_onnx(float_path, out_path, calibration: Sequence[np.ndarray], keep_in_float: Sequence[str] = ()) -> Path:
    """Write an ONNX file of this package in 8 bits; return `out_path`.

    Weights get a range for each output channel, with a sign; activations one range, without a sign: ONNX Runtime's
    kernels for x86 are made for that (activations with a sign take twice as long).

    Parameters
    ----------
    float_path, out_path : the file in float32, and the one to write.
    calibration : batches (N, C, H, W) as the file takes them; least and largest value of an activation are its range.
    keep_in_float : names of nodes of the file to leave in float32. What lies between two of them then is float32, too.

    Raises ValueError without images, ImportError without ONNX Runtime's quantizer.
    """
    _Quantizer(float_path, calibration).write(out_path, keep_in_float)
    return Path(out_path)


def quantize_onnx_to_target(
    float_path,
    out_path,
    calibration: Sequence[np.ndarray],
    target: float = TARGET,
    seconds: float = SEARCH_SECONDS,
    keep_in_float: Sequence[str] = (),
) -> List[str]:
    """As `quantize_onnx`, with the layers that hurt most left in float32; return the names of these nodes.

    If the logits of the calibration images differ by more than the target, every node alone is quantized, and the
    fewest of the worst are left out that bring all others to the target, as far as powers of two and bisection find
    them; at most half of the nodes, and those that help most if none reaches the target.

    Parameters
    ----------
    float_path, out_path, calibration : as of `quantize_onnx`.
    target : the `relative_difference` to reach, in standard deviations of the logits.
    seconds : after which the search ends, about.
    keep_in_float : names of nodes to leave in float32 whatever is found.

    Raises what `quantize_onnx` raises.
    """
    quantizer = _Quantizer(float_path, calibration)
    images = next(_batches(calibration, quantizer.batch))
    exact = onnx_runner(Path(float_path))(images)
    with tempfile.TemporaryDirectory() as folder:

        def error(keep: Sequence[str] = (), only: Sequence[str] = ()) -> float:
            path = quantizer.write(Path(folder) / "trial.onnx", [*keep_in_float, *keep], only)
            return max(map(relative_difference, _several(onnx_runner(path)(images)), _several(exact)))

        keep = [] if error() <= target else _search(quantizer.names, error, target, seconds)
    quantizer.write(out_path, [*keep_in_float, *keep])
    return keep


def write_int8_onnx_file(
    graph: StaticGraph,
    images: np.ndarray,
    prefix: Path,
    batch: Optional[int] = None,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Tuple[Path, List[str]]:
    """Write <prefix>.onnx of a graph in 8 bits; return it and the names of the nodes left in float32.

    Parameters
    ----------
    images : (N, C, H, W) as the graph takes them; they fix the ranges.
    batch : the file's N; None: any.
    metadata : the file's `metadata_props`.
    """
    path = prefix.with_name(f"{prefix.name}.onnx")
    with tempfile.TemporaryDirectory() as folder:
        exact = write_onnx_file(*graph, Path(folder) / prefix.name, images.shape[1:], batch, metadata=metadata)
        return path, quantize_onnx_to_target(exact, path, [images])


def write_int8_onnx_detector(
    heads: StaticGraph, write: Callable[[Path], Path], images: np.ndarray, prefix: Path, batch: Optional[int] = None
) -> Tuple[Path, List[str]]:
    """Write <prefix>.onnx of a detector in 8 bits as far as its heads; boxes are decoded and chosen in float32.

    Returns the file and the names of the nodes before the heads' outputs that are left in float32.

    Parameters
    ----------
    heads : from `data` to logits and offsets, by which the layers that 8 bits hurt are found.
    write : writes the whole detector in float32, <prefix>.onnx, and returns its path.
    images, prefix, batch : as of `write_int8_onnx_file`.
    """
    path = prefix.with_name(f"{prefix.name}.onnx")
    with tempfile.TemporaryDirectory() as folder:
        outputs = ("logits", "offsets")
        exact = write_onnx_file(*heads, Path(folder) / "heads", images.shape[1:], batch, outputs, blocks=0)
        nodes = _load(exact).graph.node
        # Every map's own range serves it better than one of all maps, which what joins them would give.
        joining = _behind_layers(nodes, outputs)
        trial = Path(folder) / "heads-int8.onnx"
        float_layers = quantize_onnx_to_target(exact, trial, [images], keep_in_float=joining)
        inside = {node.name for node in nodes} - set(joining)
        whole = _Quantizer(write(Path(folder) / prefix.name), [images])
        whole.write(path, [*float_layers, *(name for name in whole.all_names if name not in inside)])
    return path, float_layers


def _behind_layers(nodes: Sequence[Any], outputs: Sequence[str]) -> List[str]:
    """Names of the nodes between outputs and the last layers."""
    makers, found, waiting = {output: node for node in nodes for output in node.output}, {}, list(outputs)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.op_type not in ("Conv", "Gemm") and node.name not in found:
            found[node.name] = node
            waiting += node.input
    return list(found)


def _search(names: List[str], error: Callable[..., float], target: float, seconds: float) -> List[str]:
    begin, alone = time.perf_counter(), {}
    for name in progress_bar(names, desc="layers alone in 8 bits", unit="layer"):
        if time.perf_counter() - begin > seconds:
            break
        alone[name] = error(only=[name])
    worst = sorted(alone, key=lambda name: -alone[name])
    found = {0: error()}
    count = 1
    while count <= len(names) // 2:
        found[count] = error(keep=worst[:count])
        if found[count] <= target:
            break
        count *= 2
    else:
        return worst[: min(found, key=lambda count: found[count])]
    low = count // 2
    while count - low > 1:
        middle = (low + count) // 2
        if error(keep=worst[:middle]) <= target:
            count = middle
        else:
            low = middle
    return worst[:count]


def _several(outputs) -> List[np.ndarray]:
    return outputs if isinstance(outputs, list) else [outputs]


def _load(path) -> Any:
    """A file in float32 with h-swish as HardSigmoid and Mul, which have 8-bit forms in ONNX Runtime; it has none."""
    onnx = optional_import("onnx", "onnx", "8-bit ONNX files")
    model, nodes = onnx.load(str(path)), []
    for node in model.graph.node:
        if node.op_type == "HardSwish":
            [x], name = node.input, f"{node.name}_gate"
            nodes.append(onnx.helper.make_node("HardSigmoid", [x], [name], name, alpha=1 / 6, beta=0.5))
            node = onnx.helper.make_node("Mul", [x, name], node.output, node.name)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


class _Quantizer:
    """An ONNX file with the ranges of its activations, for 8-bit files that leave out different nodes."""

    def __init__(self, path, calibration: Sequence[np.ndarray]):
        if not len(calibration):
            raise ValueError("quantization needs at least one batch of images for calibration")
        self._library = optional_import("onnxruntime.quantization", "onnx", "8-bit ONNX files")
        self._onnx = optional_import("onnx", "onnx", "8-bit ONNX files")
        self._model = self._onnx.shape_inference.infer_shapes(_load(path))
        self._ranges = self._calibrated(calibration)

    @property
    def batch(self) -> Optional[int]:
        """N of the file; None: any."""
        return self._model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None

    @property
    def names(self) -> List[str]:
        """The nodes whose numbers become others in 8 bits."""
        return [node.name for node in self._model.graph.node if node.op_type in _COMPUTING]

    @property
    def all_names(self) -> List[str]:
        """All nodes."""
        return [node.name for node in self._model.graph.node]

    def write(self, path, keep: Sequence[str] = (), only: Sequence[str] = ()) -> Path:
        """Write the file in 8 bits, but for the nodes `keep`, or with the nodes `only` alone in 8 bits."""
        model = self._onnx.ModelProto()
        model.CopyFrom(self._model)
        kinds = self._library.QuantType
        quantizer = self._library.QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=kinds.QInt8,
            activation_qType=kinds.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(keep),
            op_types_to_quantize=[*_COMPUTING, *_MOVING],
            # Logits are float32 at no cost.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        model = quantizer.model.model
        _HardSigmoids(self._onnx, model.graph).replace()
        del model.graph.value_info[:]
        self._onnx.checker.check_model(model)
        write_bytes(path, model.SerializeToString())
        return Path(path)

    def _calibrated(self, calibration: Sequence[np.ndarray]):
        batches = _batches(calibration, self.batch)

        class Reader(self._library.CalibrationDataReader):  # type: ignore[name-defined]  # of an optional package
            def get_next(self):
                batch = next(batches, None)
                return None if batch is None else {"data": batch}

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "float.onnx"
            self._onnx.save(self._model, str(path))
            calibrator = self._library.create_calibrator(
                str(path), [*_COMPUTING, *_MOVING], augmented_model_path=str(path.with_name("observed.onnx"))
            )
            calibrator.collect_data(Reader())
            return calibrator.compute_data()


def _batches(images: Sequence[np.ndarray], size: Optional[int]) -> Iterator[np.ndarray]:
    """All images in batches of `size` (repeated to fill the last one), or of any moderate size."""
    together: np.ndarray = np.ascontiguousarray(np.concatenate(list(images)), np.float32)
    if size:
        together = np.resize(together, (-(-len(together) // size) * size, *together.shape[1:]))
    size = size or _BATCH
    return iter([together[begin : begin + size] for begin in range(0, len(together), size)])


class _HardSigmoids:
    """Replaces HardSigmoid between 8-bit values, for which ONNX Runtime has no 8-bit kernel, by an 8-bit addition.

    clip(alpha x + beta, 0, 1): alpha x is x with another scale, and the clipping is that of unsigned 8-bit values whose
    zero is 0 and whose largest is at most 1. MobileNetV3 runs a seventh faster by that.
    """

    def __init__(self, onnx, graph):
        self._onnx, self._graph = onnx, graph
        self._makers = {output: node for node in graph.node for output in node.output}
        self._values = {tensor.name: tensor for tensor in graph.initializer}

    def replace(self) -> None:
        quantized = {node.input[0]: node for node in self._graph.node if node.op_type == "QuantizeLinear"}
        nodes: List[Any] = []
        for node in self._graph.node:
            source, reader = self._makers.get(node.input[0]), quantized.get(node.output[0])
            if (
                node.op_type == "HardSigmoid"
                and source is not None
                and source.op_type == "DequantizeLinear"
                and reader is not None
                and self._value(reader.input[2]) == 0
            ):
                nodes += self._addition(node, source)
            else:
                nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _addition(self, node, source) -> List[Any]:
        settings = {attribute.name: attribute.f for attribute in node.attribute}
        scale = self._constant(f"{node.name}_alpha_scale", self._value(source.input[1]) * settings["alpha"], np.float32)
        beta = [
            self._constant(f"{node.name}_beta", 255, np.uint8),
            self._constant(f"{node.name}_beta_scale", settings["beta"] / 255, np.float32),
            self._constant(f"{node.name}_beta_zero", 0, np.uint8),
        ]
        names, make = [f"{node.name}_scaled", f"{node.name}_beta_float"], self._onnx.helper.make_node
        return [
            make("DequantizeLinear", [source.input[0], scale, source.input[2]], names[:1], names[0]),
            make("DequantizeLinear", beta, names[1:], names[1]),
            make("Add", names, node.output, node.name),
        ]

    def _value(self, name: str) -> np.ndarray:
        return self._onnx.numpy_helper.to_array(self._values[name])

    def _constant(self, name: str, value, kind) -> str:
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(np.array(value, kind), name))
        return name
