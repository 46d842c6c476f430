"""What a latency measurement builds: the runtimes, and the files or builders of every network in them."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ... import native
from ...complexity import count, count_params
from ...deploy.aligned.select import aligned, aligned_forms
from ...deploy.compiled.graph import compiled_graph
from ...deploy.forms import ONNX_FORMS, PORTABLE, Form
from ...deploy.graph.inference import StaticGraph, network_graph
from ...deploy.routed.router import static_subnet
from ...deploy.to_mxnet.files import write_symbol_files
from ...deploy.to_onnx.files import write_onnx_file
from ...deploy.to_onnx.int8 import quantize_onnx
from ...deploy.to_tvm import compile as tvm_compiler
from ...models import ClassificationNet, ModelInfo, model_info
from ...models.condense import condense
from ...models.condensenet import CondenseNet
from ...models.slimmable_views import SubNet
from ...nn import masked_layers
from ..torch_outline import outline

__all__ = ["LATENCY_RUNTIMES", "Job", "Network", "Runtime", "find_jobs"]


_FOR_TVM = Form("TVM", "onnx", 0, {})


class Runtime(NamedTuple):
    """`kind`: of the worker process; `form`: what it does with a network; `int8`: not in float32.

    `is_peer`: the network is PyTorch's, ours is compared with it; of other kinds than 'torch', exported by PyTorch.
    """

    kind: str
    form: str
    int8: bool = False
    is_peer: bool = False


LATENCY_RUNTIMES = {
    "mxnet": Runtime("mxnet", "plain"),
    "mxnet-fused": Runtime("mxnet", "fused"),
    "mxnet-compiled": Runtime("mxnet", "compiled"),
    "mxnet-aligned": Runtime("mxnet", "aligned"),
    "onnxruntime": Runtime("onnxruntime", "plain"),
    "onnxruntime-aligned": Runtime("onnxruntime", "aligned"),
    "onnxruntime-portable": Runtime("onnxruntime", "portable"),
    "onnxruntime-int8": Runtime("onnxruntime", "int8", int8=True),
    "openvino": Runtime("openvino", "plain"),
    "openvino-aligned": Runtime("openvino", "aligned"),
    "openvino-portable": Runtime("openvino", "portable"),
    "tvm": Runtime("tvm", "plain"),
    **{
        name: Runtime(kind, form, is_peer=True)
        for name, kind, form in (
            ("torch", "torch", "eager"),
            ("torch-channels-last", "torch", "eager channels-last"),
            ("torch-jit", "torch", "jit"),
            ("torch-jit-channels-last", "torch", "jit channels-last"),
            ("torch-jit-optimized", "torch", "jit optimized"),
            ("torch-jit-optimized-channels-last", "torch", "jit optimized channels-last"),
            ("torch-compile", "torch", "compile channels-last"),
            ("torch-onnx", "onnxruntime", "plain"),
            ("torch-onnx-authors", "onnxruntime", "authors"),
            ("torch-onnx-openvino", "openvino", "plain"),
            ("torch-onnx-openvino-authors", "openvino", "authors"),
        )
    },
}


class Job(NamedTuple):
    """A row to measure. `request`: what the worker builds; `int8`: not in float32.

    `export`: what PyTorch has to write before, as its 'file'; None for what is there.
    """

    model: str
    runtime: str
    kind: str
    batch: int
    int8: bool
    request: Dict[str, Any]
    export: Optional[Dict[str, Any]] = None


class Network:
    """A network with its weights, and its files in `folder`. Networks with masks are condensed.

    `database`: the folder of TVM's tuning, if there is one.
    """

    def __init__(
        self,
        name: str,
        net: ClassificationNet,
        image_size: Tuple[int, int],
        folder: Path,
        database: Optional[str] = None,
    ):
        self.name, self.folder, self.database = name, folder, database
        self.image = (net.in_channels, *image_size)
        self.net = condense(net) if masked_layers(net) else net
        info: Optional[ModelInfo] = net.info
        self.registered = info.name if info else ""
        self._image_size = image_size

    @functools.cached_property
    def madds(self) -> Optional[int]:
        """Multiply-adds of an image; of square ones alone."""
        height, width = self._image_size
        return count(self.net, height).madds if height == width else None

    def about(self) -> Dict[str, Any]:
        """Costs, and the published top-1 accuracy in percent; None where no source gives one for these images."""
        info = model_info(self.registered) if self.registered else None
        published = info.published if info and self._image_size == 2 * (info.input_size,) else ()
        return {
            "params": count_params(self.net),
            "madds": self.madds,
            "published_top1": _top1(published),
        }

    def request(self, runtime: Runtime, batch: int, form: str) -> Dict[str, Any]:
        """What the worker needs to build this network; `form`: of `aligned`. Raises ValueError if there is none."""
        shape = {"shape": [batch, *self.image]}
        if runtime.kind == "torch":
            return {**shape, "form": runtime.form, **self._torch()}
        if runtime.is_peer:
            return {**shape, "files": [self.export(runtime, batch)["file"]]}
        align = form if runtime.form == "aligned" else None
        if align and align not in aligned_forms(self.net):
            raise ValueError("no aligned form" + (f" {align!r}" if aligned_forms(self.net) else ""))
        if runtime.kind == "tvm":
            tvm = {"database": self.database, "tvm_files": tvm_compiler.__file__}
            return {**shape, **tvm, "files": [str(self._onnx(batch, align, "tvm"))]}
        if runtime.form == "portable":
            align = "auto" if ONNX_FORMS[PORTABLE].aligns(self.net) else None
            return {**shape, "files": [str(self._onnx(batch, align, PORTABLE))]}
        if runtime.kind in ONNX_FORMS:
            path = self._int8(batch) if runtime.int8 else self._onnx(batch, align, runtime.kind)
            return {**shape, "files": [str(path)]}
        if runtime.form == "compiled":
            library, written = str(native.library()), [str(path) for path in self._compiled()]
            return {**shape, "form": "compiled", "library": library, "files": written}
        # CondenseNets' aligned graphs are faster without fusion.
        plain = runtime.form == "plain" or (align and isinstance(self.net, CondenseNet))
        return {**shape, "form": "plain" if plain else "fused", "files": list(map(str, self._symbol(align)))}

    def export(self, runtime: Runtime, batch: int) -> Dict[str, Any]:
        """What PyTorch writes for another runtime, see in_torch.py. Raises ValueError if it has no such network."""
        file = self.folder / f"torch-{runtime.form}-{batch}.onnx"
        return {"shape": [batch, *self.image], "file": str(file), **self._torch(runtime.form == "authors")}

    def _torch(self, authors: bool = False) -> Dict[str, Any]:
        """The network of torchvision or timm, or the one that is written like ours."""
        costs = {"params": count_params(self.net), "madds": self.madds, "torch_modules": torch_modules_file()}
        counterpart = model_info(self.registered).torch if self.registered else None
        try:
            written = {"outline": outline(self.net, authors), "what": "the network written in PyTorch"}
        except ValueError as error:
            if authors:
                raise
            if counterpart is None:
                raise ValueError(f"neither in torchvision nor in timm, and {error}") from None
            written = {"what": ".".join(counterpart[:2])}
        if counterpart is None or authors:
            return {**costs, **written}
        package, function, arguments = counterpart
        return {**costs, **written, "builder": (package, function, {**arguments, "num_classes": self.net.num_classes})}

    def _graph(self, align: Optional[str], format: str) -> StaticGraph:
        if isinstance(self.net, SubNet):
            return network_graph(static_subnet(self.net.whole, self.net.path))
        return network_graph(aligned(self.net, align, format) if align else self.net)

    def _symbol(self, align: Optional[str]) -> Tuple[Path, Path]:
        return write_symbol_files(*self._graph(align, "mxnet"), self.folder / str(align))

    def _compiled(self) -> Tuple[Path, Path]:
        """The files as they are after loading, with the compiled operator in them. Raises ValueError without it."""
        if not native.load():
            raise ValueError(f"no compiled operators: {native.remedy()}")
        return write_symbol_files(
            *compiled_graph(self._graph(None, "mxnet"), self.image).graph, self.folder / "compiled"
        )

    def _onnx(self, batch: int, align: Optional[str], runtime: str) -> Path:
        """The file of `export --for`; for TVM without zeros."""
        path = self.folder / f"{align}-{batch}-{runtime}.onnx"
        if path.is_file():
            return path
        form = ONNX_FORMS.get(runtime, _FOR_TVM)
        graph = self._graph(align, form.format_of(self.net))
        return write_onnx_file(*graph, path.with_suffix(""), self.image, batch, blocks=form.blocks)

    def _int8(self, batch: int) -> Path:
        """The ranges are of random images: times do not depend on them, and accuracy is not asked for."""
        path = self._onnx(batch, None, "onnxruntime")
        image = np.random.RandomState(0).standard_normal((batch, *self.image)).astype(np.float32)
        return quantize_onnx(path, path.with_name(f"{path.stem}-int8.onnx"), [image])


def torch_modules_file() -> str:
    """What the workers of PyTorch build outlines with; they are started by another interpreter, perhaps."""
    return str(Path(__file__).parents[1] / "torch_modules.py")


def find_jobs(
    networks: Sequence[Network], runtimes: Sequence[str], batches: Sequence[int], forms: Sequence[str]
) -> Tuple[List[Job], Dict[str, Dict[str, str]]]:
    """What there is to measure, and {runtime: {model: why it is not measured}}.

    Raises ValueError for an unknown runtime.
    """
    unknown = [name for name in runtimes if name not in LATENCY_RUNTIMES]
    if unknown:
        raise ValueError(f"unknown runtime {unknown[0]!r}; choose from {', '.join(LATENCY_RUNTIMES)}")
    jobs: List[Job] = []
    left_out: Dict[str, Dict[str, str]] = {}
    for batch in batches:
        for network in networks:
            for name in runtimes:
                runtime = LATENCY_RUNTIMES[name]
                for form in forms if runtime.form == "aligned" else ("auto",):
                    label = name if form == "auto" else f"{name} {form}"
                    try:
                        request = network.request(runtime, batch, form)
                        from_torch = runtime.is_peer and runtime.kind != "torch"
                        export = network.export(runtime, batch) if from_torch else None
                    except (ValueError, ImportError) as error:
                        left_out.setdefault(label, {})[network.name] = " ".join(str(error).split())
                    else:
                        jobs.append(Job(network.name, label, runtime.kind, batch, runtime.int8, request, export))
    return jobs, left_out


def _top1(published: Sequence[Dict[str, str]]) -> Optional[float]:
    for row in published:
        number = re.fullmatch(r"(\d+(?:\.\d+)?) ?%?", row["value"])
        if number and row["what"] in ("top-1", "top-1 error"):
            value = float(number.group(1))
            return value if row["what"] == "top-1" else round(100 - value, 3)
    return None
