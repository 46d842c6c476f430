"""Detectors in ONNX Runtime, with and without the choice of detections, beside torchvision's as PyTorch exports it."""

from __future__ import annotations

import datetime
import json
import subprocess
import tempfile
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .. import _resources
from .._requirements import optional_import
from ..complexity import count
from ..deploy import export
from ..deploy.compare import cpu_function
from ..deploy.compare_detections import every_graph
from ..deploy.graph.inference import inference_graph, network_graph
from ..deploy.to_onnx.files import write_onnx_file
from ..detection import Detector, get_detector
from ..nn.init import initialize_like_trained
from ..progress import progress_bar
from ..timing import Latency, Speedup, conditions, speedup, time_interleaved
from ..weights import official_weights

__all__ = ["FORMS", "PEER", "detectors_table", "measure_detectors"]

PEER = "ssdlite320_mobilenet_v3_large"
FORMS = ("heads", "all boxes", "detections")
OURS, THEIRS, TORCHVISION = "gluon_effnets", "torch.onnx", "torchvision"
_OPSET = 13


def measure_detectors(
    names: Sequence[str],
    classes: int = 90,
    pairs: int = 1000,
    repeats: int = 50,
    threads: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    torch_python: Optional[str] = None,
) -> Dict[str, Any]:
    """Time detectors for one image: {'conditions', 'rows', 'against', 'left_out'}, ready for JSON.

    A row is one detector in one form, by one exporter: `heads` gives logits and offsets, `all boxes` decodes them,
    `detections` chooses. Weights are random and the same for both exporters; the background's score is set so that the
    suppression has work as on a photograph. `against` tells how many times as fast ours are as the peer's, with the
    95 % interval.

    Args:
        names: Of detectors.
        classes: Number of them, without the background.
        pairs: Of a box and a class that have a score above the detector's limit.
        repeats: Of the measurement, all forms of all detectors in turn.
        threads: Of ONNX Runtime.
        clock: Counts seconds; `time.process_time` those of the processor, which other processes disturb less.
        torch_python: The interpreter that has torchvision, whose own detector is measured then. Without it, the same
            structure is, written in this interpreter's PyTorch.

    Raises:
        ValueError: If the peer's detector gives other answers, or `torch_python` cannot export it.
    """
    x = np.random.RandomState(0).standard_normal((1, 3, 320, 320)).astype(np.float32)
    calls: Dict[Tuple[str, str, str], Callable[[], Any]] = {}
    costs, left_out, versions = {}, [], _versions()
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate(progress_bar(names, desc="export", unit="detector")):
            net = get_detector(name, classes)
            initialize_like_trained(net)
            found = _with_candidates(net, x, pairs)
            cost = count(net, net.image_size)
            costs[name] = {"params": cost.params, "madds": cost.madds, "pairs": found}
            files = {OURS: _our_files(net, Path(folder) / f"{place}-ours")}
            if name == PEER and torch_python:
                place_of_theirs = Path(folder) / "torchvision"
                files[TORCHVISION], found_versions = _torchvisions_files(net, torch_python, place_of_theirs)
                versions["versions"].update(found_versions)
            elif name == PEER:
                try:
                    files[THEIRS] = _their_files(net, x, Path(folder) / f"{place}-theirs")
                except ImportError as error:
                    left_out.append(f"{THEIRS}: {error}")
            for exporter, paths in files.items():
                calls.update({(name, exporter, form): _call(path, x, threads) for form, path in paths.items()})
        for other in calls:
            if other[1] != OURS:
                _check_equal(calls[other[0], OURS, other[2]](), calls[other](), other[2])
        times = time_interleaved(calls, repeats, clock)
    rows = [
        {"detector": name, "exporter": by, "form": form, **costs[name], "minimum": time.minimum, "median": time.median}
        for (name, by, form), time in times.items()
    ]
    against = [
        {"detector": name, "exporter": by, "form": form, **_lead(times, name, by, form).record()}
        for name, by, form in times
        if by != OURS
    ]
    counted = {"classes": classes, "repeats": repeats, "threads": threads, "clock": clock.__name__}
    about = {**conditions(), **counted, **versions}
    return {"conditions": about, "rows": rows, "against": against, "left_out": left_out}


def detectors_table(result: Mapping[str, Any]) -> str:
    """The measurement as Markdown, with its conditions below."""
    from ..tables import Table

    lines: List[List[Any]] = []
    rows = {(row["detector"], row["exporter"], row["form"]): row for row in result["rows"]}
    for name, exporter in dict.fromkeys(key[:2] for key in rows):
        own = [rows[name, exporter, form] for form in FORMS]
        cells = [f"{row['minimum']:.2f} ({row['median']:.2f})" for row in own]
        lines.append([name, exporter, f"{own[0]['madds'] / 1e6:.1f}", *cells, own[2]["median"] - own[0]["median"]])
    header = ["detector", "exported by", "MAdds, M", *(f"{form}, ms" for form in FORMS)]
    about = result["conditions"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    load = about["load_average"]
    counted = "processor time, " if about["clock"] == time.process_time.__name__ else ""
    text = (
        f"One image of 320 x 320, {about['classes']} classes, {about['threads']} thread(s); {counted}minimum (median) "
        f"of {about['repeats']} repetitions in turn. {about['processor']}, {about['processors']} processors"
        f"{f', load average {load[0]:.1f}' if load else ''}; {versions}; {about['date']}, "
        f"commit {about['commit'] or 'unknown'}."
    )
    leads = "".join(f"- {_sentence(lead)}.\n" for lead in result["against"])
    return f"{Table([*header, ('decoding and choice, ms', '.2f')], lines).markdown()}\n\n{text}\n\n{leads}".rstrip()


def _lead(times: Mapping[Tuple[str, str, str], Latency], name: str, other: str, form: str) -> Speedup:
    return speedup(times[name, OURS, form].samples, times[name, other, form].samples)


def _sentence(lead: Mapping[str, Any]) -> str:
    found = Speedup(lead["ratio"], lead["ratio_low"], lead["ratio_high"], lead["repetitions"])
    return f"{lead['detector']}, {lead['form']}: ours {found.over(lead['exporter'])}"


def _with_candidates(net: Detector, x: np.ndarray, pairs: int) -> int:
    """Raise or lower the background until about so many pairs have a score above the limit; return how many do."""
    heads = network_graph(net)._replace(symbol=inference_graph(net.predictor))
    [logits] = cpu_function(heads)(x, "float32")[0]
    powers = np.exp(logits.astype(np.float64))
    limit, others = net.detections.selection.score_above, powers[:, 1:].sum(axis=1)
    # The share that the background may have for every pair to be just at the limit; sigmoids do not know it.
    needed = powers[:, 1:] / limit - others[:, None]
    # Between two of them, so that rounding decides about none.
    nearest = np.sort((needed / powers[:, :1]).ravel())[-pairs - 1 : -pairs + 1 or None]
    change = np.log(nearest).mean()
    for head in net.predictor.class_heads:
        bias = head.output.bias.data().asnumpy().reshape(-1, net.num_classes + 1)
        bias[:, 0] += change
        head.output.bias.set_data(bias.ravel())
    return int((cpu_function(every_graph(net))(x, "float32")[1] > limit).sum())


def _our_files(net: Detector, prefix: Path) -> Dict[str, Path]:
    heads = network_graph(net)._replace(symbol=inference_graph(net.predictor))
    image = (net.in_channels, net.image_size, net.image_size)
    path = prefix.with_name(f"{prefix.name}-heads")
    files = {FORMS[0]: write_onnx_file(*heads, path, image, 1, ("logits", "offsets"))}
    for form, everything in ((FORMS[1], True), (FORMS[2], False)):
        path = prefix.with_name(f"{prefix.name}-{everything}")
        files[form] = export(net, path, format="onnx", batch=1, all_boxes=everything).files[0]
    return files


def _their_files(net: Detector, x: np.ndarray, prefix: Path) -> Dict[str, Path]:
    torch = optional_import("torch", "torch", "torchvision's detector")
    from .torchvision_ssdlite import AllBoxes, Chosen, SSDLite

    twin = SSDLite(net.num_classes).eval()
    state = official_weights(net, "torchvision_ssdlite")
    twin.load_state_dict({key: torch.tensor(np.asarray(value)) for key, value in state.items()}, strict=False)
    every = AllBoxes(twin, torch.tensor(net.anchors.asnumpy()), net.image_size).eval()
    library = _declare_suppression(torch)
    image, files = torch.tensor(x), {}
    for form, module in zip(FORMS, (twin, every, Chosen(every, net.num_classes).eval())):
        files[form] = prefix.with_name(f"{prefix.name}-{form.replace(' ', '-')}.onnx")
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of constants in traces, and that the exporter is an old one
            names = {"input_names": ["data"], "opset_version": _OPSET}
            torch.onnx.export(module, (image,), str(files[form]), dynamo=False, **names)
    del library
    return files


def _torchvisions_files(net: Detector, python: str, folder: Path) -> Tuple[Dict[str, Path], Dict[str, str]]:
    folder.mkdir()
    state = folder / "state.npz"
    np.savez(state, **{key: np.asarray(value) for key, value in official_weights(net, "torchvision_ssdlite").items()})
    # By its text: Python would look for libraries in the folder of a file first, where `profile` is another module.
    script = Path(__file__).with_name("torchvision_export.py").read_text()
    try:
        command = [python, "-", str(state), str(net.num_classes), str(folder)]
        done = subprocess.run(command, input=script, cwd=folder, capture_output=True, text=True)
    except OSError as error:
        raise ValueError(f"{python} cannot be started: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{python} did not export torchvision's detector: {last}")
    files = {form: folder / f"{form.replace(' ', '-')}.onnx" for form in FORMS}
    return files, json.loads(done.stdout.splitlines()[-1])


def _declare_suppression(torch) -> Any:
    """torchvision's operator and its form in ONNX, as torchvision itself declares both."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    # Only traced: which boxes it keeps does not matter, but that there are some.
    library.impl("nms", lambda boxes, scores, overlap: scores.argsort(descending=True)[:5], "CPU")

    def symbolic(g, boxes, scores, overlap):
        constants = [torch.tensor([1 << 40], dtype=torch.int64), torch.tensor([overlap], dtype=torch.float32)]
        most, limit = (g.op("Constant", value_t=value) for value in constants)
        axes = [g.op("Constant", value_t=torch.tensor(axis, dtype=torch.int64)) for axis in ([0], [0, 1])]
        boxes, scores = g.op("Unsqueeze", boxes, axes[0]), g.op("Unsqueeze", scores, axes[1])
        chosen = g.op("NonMaxSuppression", boxes, scores, most, limit)
        column = g.op("Constant", value_t=torch.tensor(2, dtype=torch.int64))
        return g.op("Gather", chosen, column, axis_i=1)

    from torch.onnx import register_custom_op_symbolic, symbolic_helper

    register_custom_op_symbolic("torchvision::nms", symbolic_helper.parse_args("v", "v", "f")(symbolic), _OPSET)
    return library


def _call(path: Path, x: np.ndarray, threads: int) -> Callable[[], List[np.ndarray]]:
    runtime = optional_import("onnxruntime", "onnx", "run ONNX files")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"data": x})


def _check_equal(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], form: str) -> None:
    """Raise ValueError unless both compute the same, of detections the scores of most."""
    if form == FORMS[2]:
        found = ours[1][0][ours[1][0] > 0]
        pairs = [(found, np.sort(theirs[1])[::-1][: len(found)])]
        same = len(theirs[1]) == len(found) and np.mean(np.abs(pairs[0][0] - pairs[0][1]) < 1e-3) > 0.9
    else:
        pairs = [(ours[0], theirs[0]), (ours[1], theirs[1][..., -ours[1].shape[-1] :])]
        same = all(np.abs(a - b).max() <= 1e-3 * max(1, np.abs(a).max()) for a, b in pairs)
    if not same:
        raise ValueError(f"{form} of {PEER} are others in PyTorch: the structures differ")


def _versions() -> Dict[str, Any]:
    versions = {name: _version(name) for name in ("onnxruntime", "torch", "numpy")}
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    found = {name: version for name, version in versions.items() if version}
    return {"versions": found, "date": date, "commit": _resources.commit()}


def _version(name: str) -> Optional[str]:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
