"""The kinds of work that writes, and what is known of each without faults."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from ..inputs.room import PHOTO
from ..sources import CLASSES, DETECTOR, DETECTOR_SIDE, SIDE, TORCH_MODEL
from .child import Child, count_changes, main_of


class Work(NamedTuple):
    """Something that writes.

    Args:
        words: The command; its paths are relative to the folder of the case.
        given: Files of the sources that lie there before.
        before: The command whose result lies there, or None.
        look: Returns what the result says, for comparison; raises ValueError or OSError where it is refused.
        goes_on: Whether a second start meanwhile must be refused.
    """

    words: Sequence[str]
    given: Sequence[str]
    before: Optional[Sequence[str]]
    look: Callable[[], Any]
    goes_on: bool = False


def _predict(*words: str) -> Callable[[], Any]:
    def look():
        from gluon_effnets.__main__ import main

        code = main([*words, PHOTO])
        if code:
            raise ValueError("refused")

    return look


def _trained(names: Sequence[str]) -> Callable[[], Any]:
    """The bytes of the last checkpoints."""

    def look():
        import hashlib

        for name in names:
            folders = sorted((Path("out") / name / "checkpoints").glob("update-*"))
            if not folders:
                raise ValueError("no checkpoint")
            for path in sorted(folders[-1].glob("*.params")):
                print(folders[-1].name, path.name, hashlib.sha256(path.read_bytes()).hexdigest())

    return look


def _export(*more: str, model: str = "idle_tiny", weights: str = "", side: int = SIDE) -> Work:
    def words(file: str) -> List[str]:
        return ["export", model, file, "net", "--image-size", str(side), *more]

    files = [f"{weights}old.params", f"{weights}new.params"]
    return Work(words(files[1]), [*files, PHOTO], words(files[0]), _predict("predict", "net.json"))


KINDS: Dict[str, Work] = {
    "training": Work(["train", "--config", "tiny.yaml", "--out", "out"], ["tiny.yaml"], None, _trained([""]), True),
    "staged training": Work(
        ["train", "--config", "staged.yaml", "--out", "out"],
        ["staged.yaml"],
        None,
        _trained(["supernet", "recalibrate", "gate"]),
        True,
    ),
    "export": _export(),
    "export to ONNX": _export("--format", "onnx"),
    "routed export": _export("--routed", "--format", "onnx", model="ds_mobilenet_tiny", weights="gated_"),
    "8-bit export": _export("--int8", "--data", "recordio:records", "--images", "8"),
    "conversion": Work(
        ["convert", "--model", TORCH_MODEL, "new.safetensors", "net.params"],
        ["old.safetensors", "new.safetensors", PHOTO],
        ["convert", "--model", TORCH_MODEL, "old.safetensors", "net.params"],
        _predict("predict", "--image-size", str(SIDE), TORCH_MODEL, "net.params"),
    ),
    "detector training": Work(
        ["train", "--config", "detection.yaml", "--out", "out"], ["detection.yaml"], None, _trained([""]), True
    ),
    "detector export": _export("--format", "onnx", model=DETECTOR, weights="detector_", side=DETECTOR_SIDE)._replace(
        look=_predict("predict", "--score-above", "0.01", "net.json")
    ),
    "two workers": Work([], [], None, lambda: None),
}
KINDS["8-bit export"] = KINDS["8-bit export"]._replace(given=[*KINDS["8-bit export"].given, "records"])
SHARES = {
    "staged training": 0.5,
    "8-bit export": 0.35,
    "routed export": 0.6,
    "detector training": 0.35,
    "two workers": 0.03,
}


class Known(NamedTuple):
    """What is known of a work without faults: its start, and what the earlier and the new result say."""

    start: Path
    before: Optional[str]
    after: str
    events: int


def learn(work: Work, folder: Path, home: Path) -> Known:
    start = home / "start"
    start.mkdir(parents=True)
    for name in work.given:
        source = folder / name
        shutil.copytree(source, start / name) if source.is_dir() else shutil.copy(source, start / name)
    before = None
    if work.before:
        ended = Child(start, main_of(work.before)).end()
        if ended.code:
            raise RuntimeError(f"without a fault: {ended.err}")
        before = Child(start, work.look).end().out
    whole = home / "whole"
    shutil.copytree(start, whole)
    events = count_changes(whole, work.words)
    after = Child(whole, work.look).end().out
    if not after or after == before:
        raise RuntimeError(f"the results do not differ: {after}")
    return Known(start, before, after, events)


def make_sources(folder: Path) -> None:
    """Two sets of weights for each work, made in a child."""

    def run():
        from detectors import trained_detector
        from networks import trained

        from gluon_effnets.models import Preprocessing
        from gluon_effnets.weights import write_official

        for seed, age in enumerate(("old", "new")):
            for prefix, name in (("", "idle_tiny"), ("gated_", "ds_mobilenet_tiny")):
                net = _changed(trained(name, classes=3), seed)
                net.preprocessing = Preprocessing(image_size=SIDE)
                net.save_parameters(str(folder / f"{prefix}{age}.params"))
            detector = _changed(trained_detector(DETECTOR, CLASSES[:2]), seed)
            detector.save_parameters(str(folder / f"detector_{age}.params"))
            write_official(_changed(trained(TORCH_MODEL, classes=3), seed), folder / f"{age}.safetensors", "timm")

    ended = Child(folder, run).end()
    if ended.code:
        raise RuntimeError(ended.err)


def _changed(net, seed: int):
    """Other weights of the last layers, so that the answers differ."""
    last = net.output if hasattr(net, "output") else net.predictor.class_heads
    for param in last.collect_params().values():
        param.set_data(param.data() * (1 + 2 * seed))
    return net
