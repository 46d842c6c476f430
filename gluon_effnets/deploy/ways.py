"""What is exported as what, and the ways to do it: in float32 with or without BN folded in, and in 8 bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Union

import numpy as np
from mxnet.gluon.block import HybridBlock

from ..detection.detector import Detector
from ..files.schema import check_type, whole
from ..files.text import shortened
from ..models import ClassificationNet
from ..nn import IdleRun
from ..timing import time_interleaved
from .answers import Answers, Asked, Graphs, answers_of
from .compare import Findings, Judgement, questions, split_images
from .description import Description, as_metadata, facts_of
from .formats import Content, Format, Options, Runner, Written
from .forms import PORTABLE
from .graph.inference import Normalization, StaticGraph
from .graph.static import static_graph
from .to_mxnet.variants import fusion_is_available, try_fusion

__all__ = ["ExportError", "Net", "Target", "Way", "require_weights", "ways_of"]

Net = Union[ClassificationNet, Detector]
_LONG_MS = 1000  # one run of such a call is measurement enough


class ExportError(ValueError):
    """The exported files do not give the network's answers."""


class Way(Protocol):
    """One way to export a network, checked before; `export` takes these steps one after the other."""

    def write(self, prefix: Path) -> Any:
        """Write <prefix>...; the `files` of the result are the paths."""

    def load(self, written: Any) -> Any:
        """Load what was written in its runtime."""

    def compare(self, written: Any, loaded: Any) -> Findings:
        """Compare it with the network."""

    def describe(self, written: Any, found: Findings) -> Description:
        """Say what was written and found."""


def ways_of(target: Target, exact: Net, int8: Optional[Sequence[np.ndarray]]) -> List[Way]:
    """How a target, whose answers are to be those of the network `exact`, can be written."""
    if int8 is not None:
        target.answers.check_8_bits()
        calibration, held_out = split_images(int8, (target.net.in_channels, target.size, target.size))
        expected = target.answers.expected(exact, held_out)
        if not all(np.isfinite(array).all() for array in expected):
            raise ExportError("the network's own logits are not finite (nan or inf); there is nothing to quantize")
        return [_Int8(target, target.given(calibration), target.given(held_out), expected)]
    try:
        asked = questions(exact, target.size, target.options.raw_input, target.answers.ask(exact))
    except ValueError as error:
        raise ExportError(str(error)) from None
    # Untrained networks can blow up the rounding of folded weights by orders of magnitude; trained ones do not.
    folds = (True, False) if target.options.fold and not target.format.folds else (target.options.fold,)
    return [_Float(target, asked, fold) for fold in folds]


@dataclasses.dataclass(frozen=True)
class Target:
    """What is exported as what: checked, and described alike in float32 and in 8 bits."""

    net: Net
    answers: Answers
    graphs: Graphs
    size: int
    aligned: bool
    format: Format
    options: Options
    versions: Dict[str, str]

    @classmethod
    def checked(
        cls, net: Net, image_size: Optional[int], align: Optional[bool], format: Format, options: Options
    ) -> Target:
        """Check that it can be done. Raises ValueError if it cannot, ImportError if a package is missing."""
        require_weights(net)
        check_type("image_size", image_size, int, type(None), words="a whole number of pixels, or None")
        if image_size is not None:
            whole(1, 1 << 14)(image_size, "image_size")
        format.check(options)
        channels = len(net.card.preprocessing.mean)
        if options.raw_input and channels != net.in_channels:
            raise ValueError(f"the preprocessing is for {channels} channels, not {net.in_channels}")
        if options.names is not None and len(options.names) != net.num_classes:
            raise ValueError(f"there are {len(options.names)} names, but {net.num_classes} classes")
        versions, answers = format.versions(), answers_of(net, options.all_boxes)
        size, form = answers.size(image_size), format.form(options.runtime)
        align = answers.aligned(align, form.aligns)
        graphs = answers.graphs(form.format_of(net) if align else None, format.chooses)
        graphs = graphs.behind(Normalization.of(net) if options.raw_input else None)
        return cls(net, answers, graphs, size, align, format, options, versions)

    @property
    def blocks(self) -> int:
        """Channels in the blocks of IdleBlocks in ONNX files, as in `write_onnx_file`."""
        return self.format.form(self.options.runtime).blocks if self.options.blocks else 0

    @property
    def form(self) -> Dict[str, Any]:
        """What a description says of the form of ONNX files."""
        if "runtime" in self.format.refuses:
            return {}
        blocks = self.blocks or None
        return {"runtime": self.options.runtime or PORTABLE, "blocks": blocks if _has_idle_runs(self.net) else None}

    def given(self, images: np.ndarray) -> np.ndarray:
        """Normalized images as the files take them."""
        return Normalization.of(self.net).pixels(images) if self.options.raw_input else images

    @property
    def facts(self) -> Dict[str, Any]:
        """What the files say of the network."""
        facts, names = {**facts_of(self.net, self.size), **self.answers.facts()}, self.options.names
        if names is not None:
            facts["names"] = tuple(names)
        license = self.options.license or self.net.origin.get("license")
        if license is not None:
            facts["license"] = license
        if self.options.raw_input:
            facts["normalized_inside"] = {key: facts[key] for key in ("mean", "std")}
            channels = len(facts["mean"])
            facts.update(mean=(0.0,) * channels, std=(1.0,) * channels)
        return facts

    def write(self, prefix: Path, graph: StaticGraph, calibration: Optional[np.ndarray] = None) -> Written:
        """Write a graph that equals that of the network."""
        image, options = (self.net.in_channels, self.size, self.size), self.options
        content = Content(
            graph,
            image,
            options.batch,
            self.graphs.outputs,
            choice=self.graphs.choice,
            heads=self.graphs.heads,
            tail=self.graphs.tail,
            stages=self.graphs.stages,
            blocks=self.blocks,
            calibration=calibration,
            metadata=as_metadata(self.facts),
        )
        return self.format.write(content, prefix)

    def load(self, written: Written, **how: Any) -> Runner:
        """Load what was written, with what the answers need to be compared."""
        if self.answers.inner:
            how["inner"] = self.answers.inner
        return self.format.open(written.files, self.options.batch, trust=True, **how)

    def describe(self, written: Written, found: Findings, folded: bool) -> Description:
        """Describe files that have been compared."""
        side = None if self.format.takes_any_size and not isinstance(self.net, Detector) else self.size
        return Description(
            format=self.format.name,
            files=tuple(path.name for path in written.files),
            aligned=self.aligned,
            input_shape=(self.options.batch, self.net.in_channels, side, side),
            difference=found.difference,
            compared_on=found.compared_on,
            versions=self.versions,
            folded=folded,
            **self.form,
            **self.facts,
            **found.details,
        )


def _has_idle_runs(block: Any) -> bool:
    return isinstance(block, IdleRun) or any(map(_has_idle_runs, block._children.values()))


def require_weights(net: Any) -> None:
    """Raises TypeError for what is no network of this package, ValueError for one without weights."""
    if not isinstance(net, HybridBlock) or not hasattr(net, "identity"):
        raise TypeError(f"net is {shortened(net)}, of type {type(net).__name__}; it must be a network of get_model")
    empty = [name for name, param in net.collect_params().items() if param._data is None]
    if empty:
        raise ValueError(f"net has no weights yet ({empty[0]} is empty): call net.initialize(), or load some")


@dataclasses.dataclass(frozen=True)
class _Float:
    """An export in float32: the answers of the network but for rounding."""

    target: Target
    asked: Sequence[Asked]
    fold: bool

    def write(self, prefix: Path) -> Written:
        graph = self.target.graphs.graph
        return self.target.write(prefix, static_graph(*graph) if self.fold and not self.target.format.folds else graph)

    def load(self, written: Written) -> Runner:
        return self.target.load(written)

    def compare(self, written: Written, loaded: Runner) -> Findings:
        worst, kinds = self._judged(loaded), tuple(question.kind for question in self.asked)
        found = Findings(worst.difference, kinds, worst.refused)
        if found.refused is not None or not (self.target.format.has_variants and fusion_is_available()):
            return found
        return self._with_faster_variant(found, loaded, self.target.load(written, variant="fused"))

    def describe(self, written: Written, found: Findings) -> Description:
        return self.target.describe(written, found, folded=self.fold)

    def _judged(self, run: Runner, *what: str) -> Judgement:
        return Judgement.worst(asked.judged(run(asked.images), *what) for asked in self.asked)

    def _with_faster_variant(self, found: Findings, plain: Runner, fused: Runner) -> Findings:
        """What MXNet's files run faster with on this CPU; fusion, of which MXNet has wrong cases, is compared, too."""
        difference, refused = try_fusion(lambda what: self._judged(fused, what))
        image = self.asked[0].images[:1]
        calls = {"plain": lambda: plain(image)}
        if refused is None:
            calls["fused"] = lambda: fused(image)
        minima = _minima(calls, repeats=1)
        first = sum(minima.values())
        if first < _LONG_MS:
            # Other programs disturb short calls most.
            minima = _minima(calls, min(max(round(300 / first), 3), 50))
        chosen = minima.get("fused", np.inf) < minima["plain"]
        details = {"fused": bool(chosen), "milliseconds": minima, "fusion_refused": refused}
        return found._replace(difference=difference if chosen else found.difference, details=details)


def _minima(calls: Dict[str, Callable[[], Any]], repeats: int) -> Dict[str, float]:
    return {name: round(latency.minimum, 3) for name, latency in time_interleaved(calls, repeats).items()}


@dataclasses.dataclass(frozen=True)
class _Int8:
    """An export in 8 bits: nearly the answers of the network, on images that the ranges do not come from."""

    target: Target
    calibration: np.ndarray
    held_out: np.ndarray
    expected: Any

    def write(self, prefix: Path) -> Written:
        return self.target.write(prefix, self.target.graphs.graph, self.calibration)

    def load(self, written: Written) -> Runner:
        return self.target.load(written)

    def compare(self, written: Written, loaded: Runner) -> Findings:
        judged = self.target.answers.in_8_bits(loaded(self.held_out), self.expected)
        counts = {"calibration_images": len(self.calibration), "held_out_images": len(self.held_out)}
        int8 = {**counts, **judged.figures, "float_layers": written.float_layers}
        return Findings(judged.difference, ("held-out calibration images",), judged.refused, {"int8": int8})

    def describe(self, written: Written, found: Findings) -> Description:
        return self.target.describe(written, found, folded=True)
