"""ONNX files of inference graphs, and their functions in ONNX Runtime."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, Union

import mxnet as mx
import numpy as np

from ... import __version__
from ..._requirements import optional_import
from ...files.regular import MOST_WEIGHTS, read_bytes
from ...files.text import shown
from ...files.write import write_bytes
from ..graph.inference import StaticGraph, network_graph
from ..graph.nodes import Entry, read_graph, simplify
from .idle_blocks import LANES, block_idle_runs
from .operators import OnnxNodes

__all__ = [
    "OPSET",
    "OnnxContent",
    "in_onnx_runtime",
    "onnx_package",
    "onnx_runner",
    "route_runner",
    "value_info",
    "write_model",
    "write_onnx_file",
    "write_routed_onnx_file",
]

# With HardSwish, and in ONNX Runtime from 1.14 on. Newer ones have nothing that our networks would run faster with.
OPSET = 18
# The version of the file format that came with the operators; newer ones ask for newer runtimes.
IR_VERSION = 8


def write_onnx_file(
    symbol: mx.sym.Symbol,
    arrays: Dict[str, mx.nd.NDArray],
    prefix: Path,
    image: Tuple[int, ...],
    batch: Optional[int] = None,
    outputs: Sequence[str] = ("logits",),
    blocks: int = LANES,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write <prefix>.onnx, checked: `data` (N, *image) -> `logits` (N, classes).

    Convolutions have their BN folded in, all weights are constants, and dropout is gone.

    Parameters
    ----------
    symbol, arrays : a graph with the input `data`, and the values of all its other inputs.
    image : shape of one image, or of one map.
    batch : a fixed N; None: any.
    outputs : names of the graph's outputs.
    blocks : channels in the blocks of `block_idle_runs`; 0: IdleBlocks stay as they are.
    metadata : the file's `metadata_props`.

    Raises ValueError naming the operator that ONNX cannot express, ImportError without the package onnx.
    """
    ends = simplify(read_graph(symbol, arrays, image, batch))
    entries = dict(zip(outputs, block_idle_runs(ends, blocks)))
    made = OnnxNodes(entries)
    results = [value_info(name, entry) for name, entry in entries.items()]
    return write_model(prefix, made, [batch, *image], results, metadata)


def write_routed_onnx_file(
    head: StaticGraph,
    tails: Sequence[StaticGraph],
    prefix: Path,
    image: Tuple[int, int, int],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write <prefix>.onnx, checked: `data` (1, *image) -> `logits` (1, classes) and `place` (1,) int64 in `tails`.

    Nested `If`s halve the list of tails until one is left, and it alone runs: an image more would have to take the same
    one.

    Parameters
    ----------
    head, tails : as in `RoutedGraphs`.
    image : (C, H, W).
    metadata : the file's `metadata_props`.

    Raises as `write_onnx_file` does.
    """
    maps, place = simplify(read_graph(*head, image, 1))
    map_shape = tuple(maps.size(axis) for axis in range(1, len(maps.shape)))
    taken: Set[str] = {"data", "logits"}
    before = OnnxNodes({"map": maps, "place": place}, taken=taken)
    branches = []
    for number, tail in enumerate(tails):
        [logits] = simplify(read_graph(*tail, map_shape, 1))
        name = f"logits_{number}"
        made = OnnxNodes({name: logits}, "map", taken)
        graph = onnx_package().helper.make_graph(made.nodes, name, [], [value_info(name, logits)], made.initializers)
        branches.append(graph)
    nodes = [*before.nodes, *_choice(branches, 0, "logits", logits)]
    results = [value_info("logits", logits), value_info("place", place)]
    content = OnnxContent(nodes, before.initializers)
    return write_model(prefix, content, [1, *image], results, metadata)


def _choice(branches: Sequence[Any], first: int, name: str, result: Entry) -> List[Any]:
    """Nodes that run one of `branches`, the one at `place` - `first`, for a result under `name`."""
    helper, middle = onnx_package().helper, len(branches) // 2
    assert middle, "at least two branches"
    graphs: List[Any] = []
    for half, begin in ((branches[:middle], first), (branches[middle:], first + middle)):
        if len(half) == 1:
            graphs += half
        else:
            inner = f"{name}_from_{begin}"
            graphs.append(
                helper.make_graph(_choice(half, begin, inner, result), inner, [], [value_info(inner, result)])
            )
    return [
        helper.make_node("Constant", [], [f"{name}_limit"], value_int=first + middle),
        helper.make_node("Less", ["place", f"{name}_limit"], [f"{name}_is_below"]),
        helper.make_node("If", [f"{name}_is_below"], [name], then_branch=graphs[0], else_branch=graphs[1]),
    ]


def onnx_package():
    """The package onnx. Raises ImportError with the remedy if it is missing."""
    return optional_import("onnx", "onnx", "export to ONNX")


def value_info(name: str, entry: Entry):
    """Return the declaration of an output."""
    onnx = onnx_package()
    kind = onnx.TensorProto.INT64 if entry.node.op == "argmax" else onnx.TensorProto.FLOAT
    return onnx.helper.make_tensor_value_info(name, kind, ["N" if n is None else n for n in entry.shape])


class OnnxContent(NamedTuple):
    """The nodes of a graph, and its constants."""

    nodes: List[Any]
    initializers: List[Any]


def write_model(prefix: Path, made: Union[OnnxContent, OnnxNodes], shape, results, metadata: Mapping[str, str]) -> Path:
    """Write a graph with the input `data` of a shape, None: any number."""
    onnx = onnx_package()
    helper = onnx.helper
    data = helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["N" if n is None else n for n in shape])
    content = helper.make_graph(made.nodes, prefix.name, [data], results, made.initializers)
    producer = {"producer_name": "gluon_effnets", "producer_version": __version__}
    model = helper.make_model(content, opset_imports=[helper.make_opsetid("", OPSET)], **producer)
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    path = prefix.with_name(f"{prefix.name}.onnx")
    write_bytes(path, model.SerializeToString())
    return path


def onnx_runner(path: Path, inner: Sequence[str] = ()) -> Callable[[np.ndarray], Any]:
    """Return the function (N, C, H, W) -> logits of an ONNX file, in ONNX Runtime on the CPU.

    Of a graph with several outputs it returns their list, and raises ValueError for images of another size. `inner` :
    names of what is computed within the graph, and returned behind its outputs. It uses OMP_NUM_THREADS threads, or one
    for each core. Raises ValueError if the file cannot be loaded, ImportError without
    the package onnxruntime.
    """
    content = read_bytes(path, "ONNX file", MOST_WEIGHTS)
    session = _session(_with_outputs(content, inner) if inner else content, path)
    if [given.name for given in session.get_inputs()] != ["data"]:
        raise ValueError(f"{path} is another network's file: its input is not named data")
    shape = session.get_inputs()[0].shape  # a text where any number is taken

    def run(x: np.ndarray):
        if len(x.shape) != len(shape) or any(isinstance(n, int) and n != m for n, m in zip(shape, x.shape)):
            raise ValueError(f"{path} takes an array of {' x '.join(map(str, shape))}, not {x.shape}")
        try:
            outputs = session.run(None, {"data": np.ascontiguousarray(x, np.float32)})
        except Exception as error:  # its errors have no common class of their own
            raise ValueError(f"{path} cannot run on images of the shape {x.shape}: {shown(str(error), 300)}") from None
        return outputs if len(outputs) > 1 else outputs[0]

    return run


def _with_outputs(content: bytes, names: Sequence[str]) -> bytes:
    """The content of a file whose graph gives more: what has these names, in float32."""
    onnx = onnx_package()
    model = onnx.load_model_from_string(content)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    return model.SerializeToString()


def route_runner(path: Path) -> Callable[[np.ndarray, Sequence[int]], np.ndarray]:
    """Return the function (image (1, C, H, W), places of the gates) -> logits of a routed file.

    The places are given instead of decided; all else is the file's. Raises as `onnx_runner` does.
    """
    onnx = onnx_package()
    model = onnx.load(str(path))
    given = [node for node in model.graph.node if node.op_type == "Identity" and node.output[0].startswith("chosen_")]
    if not given:
        given = [node for node in model.graph.node if "place" in node.output]
    [place] = [value for value in model.graph.output if value.name == "place"]
    model.graph.output.remove(place)
    names = [node.output[0] for node in given]
    for name, node in zip(names, given):
        model.graph.node.remove(node)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [1]))
    session = _session(model.SerializeToString(), path)

    def run(x: np.ndarray, places: Sequence[int]) -> np.ndarray:
        chosen = {name: np.array([place], np.int64) for name, place in zip(names, places)}
        return session.run(["logits"], {"data": np.ascontiguousarray(x, np.float32), **chosen})[0]

    return run


def _session(content: Union[str, bytes], path: Path):
    """A session of a file, by its path or content. Raises as `onnx_runner` does."""
    runtime = optional_import("onnxruntime", "onnx", "run ONNX files")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # its errors have no common class of their own
        raise ValueError(f"{path} is no ONNX file that ONNX Runtime can load, or it is cut short") from None


def in_onnx_runtime(net, x: mx.nd.NDArray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a network's function in ONNX Runtime, for images of the shape of `x`.

    Raises ImportError without the packages onnx and onnxruntime.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = write_onnx_file(*network_graph(net), Path(folder) / "net", x.shape[1:], len(x))
        return onnx_runner(path)
