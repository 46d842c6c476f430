"""The one way out: a network written as files for MXNet or ONNX, loaded again, compared, and described in JSON."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .. import __version__
from .._requirements import optional_import
from ..models import ClassificationNet, ModelInfo
from ..models.condensenet import CondenseNet
from ..timing import time_interleaved
from .aligned.select import aligned
from .description import FORMATS, Description, ExportedNet
from .graph.inference import inference_copy, inference_graph
from .graph.static import static_graph
from .int8 import UNUSABLE, agreement_with_float, split_images, write_int8_onnx, write_int8_symbol
from .to_mxnet.files import fusion_is_available, write_symbol_files
from .to_onnx.files import write_onnx_file

__all__ = ["ExportError", "Exported", "export"]

TOLERANCE = 1e-4  # of the logits' standard deviation

Content = Tuple[mx.sym.Symbol, Dict[str, mx.nd.NDArray]]  # a graph and its parameters
Written = Tuple[Tuple[Path, ...], Description]


class ExportError(ValueError):
    """The exported files do not give the network's answers."""


class Exported(NamedTuple):
    """What `export` wrote: the graph's files, the JSON file that `open_exported` takes, and the difference in it."""

    files: Tuple[Path, ...]
    description: Path
    difference: float

    @property
    def symbol(self) -> Path:
        """The graph in MXNet's form."""
        return self.files[0]

    @property
    def params(self) -> Path:
        """The parameters in MXNet's form."""
        return self.files[1]


def export(
    net: ClassificationNet,
    prefix,
    image_size: Optional[int] = None,
    align: Optional[bool] = None,
    *,
    format: str = "mxnet",
    batch: Optional[int] = None,
    raw_input: bool = False,
    names: Optional[Sequence[str]] = None,
    fold: bool = True,
    blocks: bool = True,
    int8: Optional[Sequence[np.ndarray]] = None,
) -> Exported:
    """Write a network for use without this package, load it in its runtime and compare.

    Parameters
    ----------
    prefix : <prefix>-symbol.json and <prefix>-0000.params, or <prefix>.onnx; <prefix>.json says what they are. The
        graph takes `data` (N, in_channels, H, W), normalized as in training, and gives logits (N, num_classes).
    image_size : H and W; None: that of the model. An ONNX file takes this size alone, MXNet's any that the network
        takes.
    align : the graph of `aligned(net, format=format)`; None: of condensed CondenseNets alone, which runs up to twice as
        fast with MXNet and ONNX Runtime.
    format : 'mxnet' or 'onnx' (opset 13; needs the packages onnx and onnxruntime).
    batch : a fixed N, for ONNX alone; None: any.
    raw_input : the graph takes pixels of 0..255 (float32, in the channel order of the weights), and normalizes itself.
    names : of the classes, for the JSON file.
    fold : BN becomes part of the convolution before it, and what does not depend on images is computed. False: the
        network's own graph, to train on or for `get_model(pretrained=...)`; for MXNet alone. A network that rounding
        changes by more than is allowed keeps its own graph.
    blocks : of ONNX files: runs of IdleBlocks in whole blocks of 16 channels, zeros in some, as ONNX Runtime is fastest
        with. False: as they are, for runtimes that multiply with those zeros, such as TVM.
    int8 : batches (N, in_channels, H, W) of normalized training images: files in 8 bits, calibrated with three quarters
        of the images. With the rest they are compared; <prefix>.json says how often the classes are the same.

    MXNet's files are run plain and with oneDNN's fused operators on this CPU; the JSON file names the faster form, and
    `open_exported` uses it.

    Raises ValueError for what cannot be exported so, ExportError if a logit differs by more than 1e-4 of the logits'
    standard deviation on random pixels or on photographs (those of scikit-learn, if it is installed). Then the
    folder is as it was. 8 bits are refused for a difference of more than 0.5 standard deviations, root mean square.
    """
    _check(net, format, batch, raw_input, names, fold)
    if not blocks and (format != "onnx" or int8 is not None):
        raise ValueError("only ONNX files in float32 have their channels in blocks, or not")
    if int8 is not None and not fold:
        raise ValueError("8-bit files always have BN folded in; a graph with BN is in float32")
    if align is None:
        align = isinstance(net, CondenseNet) and net.condensed
    prefix, size = Path(prefix), image_size or (net.info.input_size if net.info else ModelInfo.input_size)
    form = aligned(net, format=format) if align else net
    common = {"align": align, "format": format, "batch": batch, "raw_input": raw_input, "names": names}
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=str(prefix.parent)) as folder:
        written = Path(folder) / prefix.name
        if int8 is None:
            files, description = _write_float(net, form, written, size, fold, blocks, common)
        else:
            files, description = _write_int8(net, form, written, size, int8, common)
        description.save(written.with_name(f"{prefix.name}.json"))
        final = [prefix.with_name(path.name) for path in (*files, written.with_name(f"{prefix.name}.json"))]
        for path in final:
            os.replace(Path(folder) / path.name, path)
    return Exported(tuple(final[:-1]), final[-1], description.difference)


def _write_float(net, form, prefix: Path, size: int, fold: bool, blocks: bool, common: Dict[str, Any]) -> Written:
    """Write the graph of `form`, which equals that of the network, and compare it with the network."""
    format, batch, raw_input = (common[key] for key in ("format", "batch", "raw_input"))
    graph, arrays = _graph_and_arrays(form, net, raw_input)
    # Untrained networks can blow up the rounding of folded weights by orders of magnitude; trained ones do not.
    for folded in (True, False) if fold and format == "mxnet" else (fold,):
        if format == "mxnet":
            content = static_graph(graph, arrays) if folded else (graph, arrays)
            files: Tuple[Path, ...] = write_symbol_files(*content, prefix)
        else:
            files = (write_onnx_file(graph, arrays, prefix, (net.in_channels, size, size), batch, blocks=blocks),)
        description = _describe(net, files, size, folded=folded, **common)
        plain = ExportedNet(description, prefix.parent)
        differences = _differences(net, plain, size, raw_input)
        worst = max(differences.values())
        if worst <= TOLERANCE:
            break
    else:
        raise ExportError(
            f"the exported graph differs from the network by {worst:.1e} of the logits' standard deviation; "
            f"{TOLERANCE:.0e} is allowed"
        )
    description = dataclasses.replace(description, difference=worst, compared_on=tuple(differences))
    if format == "mxnet" and fusion_is_available():
        description = _with_faster_form(net, plain, description, prefix.parent, raw_input)
    return files, description


def _write_int8(net, form, prefix: Path, size: int, images: Sequence[np.ndarray], common: Dict[str, Any]) -> Written:
    """Write `form` in 8 bits, and compare it with the network on images that the ranges do not come from."""
    calibration, held_out = split_images(images, (net.in_channels, size, size))
    raw_input, (mean, std) = common["raw_input"], _mean_and_std(net)
    exact = _logits(net, held_out)
    if not np.isfinite(exact).all():
        raise ExportError("the network's own logits are not finite; there is nothing to quantize")

    def as_taken(x: np.ndarray) -> np.ndarray:
        return x * std + mean if raw_input else x

    if common["format"] == "mxnet":
        normalized = functools.partial(_normalized, net) if raw_input else lambda *content: content
        made = write_int8_symbol(form, calibration, normalized, prefix)
    else:
        content = _graph_and_arrays(form, net, raw_input)
        made = write_int8_onnx(*content, as_taken(calibration), prefix, common["batch"])
    description = _describe(net, made.files, size, folded=True, **common)
    seen = ExportedNet(description, prefix.parent)(as_taken(held_out))
    figures = agreement_with_float(seen, exact)
    if not figures["difference"] <= UNUSABLE:
        raise ExportError(
            f"in 8 bits the logits differ by {figures['difference']:.2f} of their standard deviation (root mean "
            f"square); {UNUSABLE} is allowed.\nTrain the network, calibrate with its own training images, or "
            "export it in float32"
        )
    counts = {"calibration_images": len(calibration), "held_out_images": len(held_out)}
    return made.files, dataclasses.replace(
        description,
        difference=float(np.abs(seen - exact).max() / (exact.std() or 1)),
        compared_on=("held-out calibration images",),
        int8={**counts, **figures, "float_layers": made.float_layers},
    )


def _check(net, format, batch, raw_input, names, fold) -> None:
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
    if batch is not None and format == "mxnet":
        raise ValueError("the files for MXNet take any number of images; a fixed batch is for format 'onnx'")
    if format == "onnx" and not fold:
        raise ValueError("ONNX files always have BN folded in; a graph with BN is for format 'mxnet'")
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    if raw_input and len(net.preprocessing.mean) != net.in_channels:
        raise ValueError(f"the preprocessing is for {len(net.preprocessing.mean)} channels, not {net.in_channels}")
    if names is not None and len(names) != net.num_classes:
        raise ValueError(f"there are {len(names)} names, but {net.num_classes} classes")


def _graph_and_arrays(form, net, raw_input: bool) -> Content:
    arrays = {name: param.data().as_in_context(mx.cpu()) for name, param in form.collect_params().items()}
    content = inference_graph(form), arrays
    return _normalized(net, *content) if raw_input else content


def _normalized(net, graph: mx.sym.Symbol, arrays: Dict[str, mx.nd.NDArray]) -> Content:
    """The graph behind the normalization of its input."""
    mean, std = (mx.sym.var(f"input_{what}", shape=(1, net.in_channels, 1, 1)) for what in ("mean", "std"))
    data = mx.sym.broadcast_div(mx.sym.broadcast_sub(mx.sym.var("data", dtype="float32"), mean), std)
    return graph(data=data), {**arrays, **dict(zip(("input_mean", "input_std"), map(mx.nd.array, _mean_and_std(net))))}


def _mean_and_std(net) -> List[np.ndarray]:
    """(1, in_channels, 1, 1) each, in the order of the input's channels."""
    mean, std, order = net.preprocessing
    if len(mean) != net.in_channels:
        # The preprocessing of other channels than these; any scale serves the comparison.
        mean, std = ((float(np.mean(values)),) * net.in_channels for values in (mean, std))
    step = -1 if order == "bgr" else 1
    return [np.array(values[::step], np.float32).reshape(1, -1, 1, 1) for values in (mean, std)]


def _describe(net, files, size, align, *, format, batch, raw_input, names, folded) -> Description:
    info, (mean, std, order) = net.info or ModelInfo, net.preprocessing
    options = dict(net.identity)
    versions = {"gluon_effnets": __version__, "mxnet": mx.__version__}
    if format == "onnx":
        needed = {"onnx": "export to ONNX", "onnxruntime": "compare what is exported to ONNX"}
        versions.update((name, optional_import(name, "onnx", why).__version__) for name, why in needed.items())
    side = size if format == "onnx" else None
    return Description(
        format=format,
        files=tuple(path.name for path in files),
        model=options.pop("model"),
        options=options,
        aligned=align,
        input_shape=(batch, net.in_channels, side, side),
        num_classes=net.num_classes,
        image_size=size,
        crop=info.crop,
        interpolation=info.interpolation,
        mean=(0.0,) * len(mean) if raw_input else mean,
        std=(1.0,) * len(std) if raw_input else std,
        channel_order=order,
        normalized_inside={"mean": mean, "std": std} if raw_input else None,
        names=None if names is None else tuple(names),
        difference=float("nan"),
        compared_on=(),
        versions=versions,
        folded=folded,
    )


def _differences(net: ClassificationNet, exported: ExportedNet, size: int, raw_input: bool) -> Dict[str, float]:
    mean, std = _mean_and_std(net)
    found = {}
    for what, pixels in _images(net, size).items():
        x = (pixels - mean) / std
        expected = _logits(net, x)
        difference = np.abs(exported(pixels if raw_input else x) - expected).max()
        found[what] = float(difference / (expected.std() or 1))
    return found


def _logits(net: ClassificationNet, x: np.ndarray) -> np.ndarray:
    """Those of the network itself, in float32."""
    logits = net(mx.nd.array(x, ctx=next(iter(net.collect_params().values())).list_ctx()[0]))
    if logits.dtype != np.float32:  # with mixed precision, whose rounding is not the files' fault
        logits = inference_copy(net)(mx.nd.array(x))
    return logits.asnumpy()


def _with_faster_form(net, plain: ExportedNet, description: Description, folder: Path, raw_input: bool) -> Description:
    """What MXNet's files run faster with on this CPU; fusion, of which MXNet has wrong cases, is compared like them."""
    fused, size = ExportedNet(dataclasses.replace(description, fused=True), folder), description.image_size
    try:
        difference = max(_differences(net, fused, size, raw_input).values())
    except mx.base.MXNetError:
        difference = float("nan")
    mean, std = _mean_and_std(net)
    pixels = _images(net, size)["random pixels"][:1]
    image = pixels if raw_input else (pixels - mean) / std
    calls = {"plain": lambda: plain(image)}
    if difference <= TOLERANCE:
        calls["fused"] = lambda: fused(image)
    first = sum(latency.minimum for latency in time_interleaved(calls, repeats=3).values())
    # Other programs disturb short calls most.
    repeats = min(max(round(300 / first), 3), 50)
    minima = {name: round(latency.minimum, 3) for name, latency in time_interleaved(calls, repeats).items()}
    chosen = minima.get("fused", np.inf) < minima["plain"]
    worst = difference if chosen else description.difference
    return dataclasses.replace(description, fused=bool(chosen), milliseconds=minima, difference=worst)


def _images(net: ClassificationNet, size: int) -> Dict[str, np.ndarray]:
    """Pixels of 0..255 to compare on, (n, in_channels, size, size) float32, n different for each kind."""
    shape = (3, net.in_channels, size, size)
    images = {"random pixels": np.random.RandomState(0).randint(0, 256, shape).astype(np.float32)}
    photographs = _photographs(size)
    if net.in_channels == 3 and photographs is not None:
        step = -1 if net.preprocessing.channel_order == "bgr" else 1
        images["photographs"] = photographs[:, ::step]
    return images


def _photographs(size: int) -> Optional[np.ndarray]:
    try:
        import sklearn.datasets
    except ImportError:
        return None
    # Its own loader decodes with Pillow, which fails once Horovod is loaded ("broken data stream").
    paths = [Path(sklearn.datasets.__file__).parent / "images" / f"{name}.jpg" for name in ("china", "flower")]
    resized = [mx.image.imresize(mx.image.imread(str(path))[:, :427], size, size).asnumpy() for path in paths]
    return np.stack(resized).transpose(0, 3, 1, 2).astype(np.float32)
