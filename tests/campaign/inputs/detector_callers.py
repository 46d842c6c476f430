"""Callers of detectors: command lines, and functions with values of the wrong kind."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from random import Random
from typing import Any, Callable, List

import numpy as np
from PIL import Image

from ..judge import Call
from ..sources import CLASSES, DETECTOR
from .boxes import read_boxes
from .callers import shown_or_refused, wrong_words
from .calls import Values, called_wrongly
from .room import PHOTO, Room, command

_WEIGHTS = f"{DETECTOR} {DETECTOR}.params"
_LINES = (
    f"predict {_WEIGHTS} photo.png --score-above 0.1 --top 3 --out new --json new/boxes.json",
    f"predict {_WEIGHTS} photo.png photo.jpg --batch 2 --names two.txt --format csv",
    "predict detector-onnx/net.json photo.png --format json --out drawn",
    "predict detector-mxnet-all/net.json photo.png --json boxes.json",
    f"validate {_WEIGHTS} --data voc:voc --metric voc12 --per-class",
    f"validate {_WEIGHTS} --data coco:coco --metric coco --format json",
    "validate detector-onnx-all/net.json --data detrec:detrec --set data.on_error=skip",
    f"validate {_WEIGHTS} --data voc:voc --curves new/curves.png --worst new/worst.html --worst-images 2",
    "list --detectors ssdlite* --format csv",
    "list --detectors",
    f"info {DETECTOR} --classes 3 --format json",
    f"export {_WEIGHTS} new/net --format onnx --batch 2",
    f"export {_WEIGHTS} new/net --all-boxes --names two.txt --license MIT",
    f"export {_WEIGHTS} new/net --format onnx --raw-input --all-boxes",
    f"export {_WEIGHTS} new/net --int8 --data voc:voc --images 8",
    "card detector-onnx/net.json card.md",
    "runtime detector-onnx/net.json photo.png --score 0.2 --json",
)


class DetectorCallers(Room):
    """Who calls detectors with something wrong."""

    def undamaged_detectors(self, place: Path, draw: Random) -> Call:
        """What is whole is answered; otherwise the other parts would test nothing."""
        self._files(place)
        calls = [_line(line.split()) for line in _LINES]
        calls += [functools.partial(read_boxes, f"{kind}:{kind}", "train") for kind in ("voc", "coco", "detrec")]
        return Call(draw.choice(calls), damaged=False)

    def detector_words(self, place: Path, draw: Random) -> Call:
        """Command lines of detectors with words that are wrong, missing or too many."""
        self._files(place)
        return Call(_line(wrong_words(draw.choice(_LINES), draw)))

    def detector_calls(self, place: Path, draw: Random) -> Call:
        """Functions of detection called with values of the wrong kind."""
        self._files(place)
        return Call(functools.partial(called_wrongly, draw.choice(_CALLS), Values(draw)))

    def _files(self, place: Path) -> None:
        self._give(place, f"{DETECTOR}.params", PHOTO, "photo.jpg", "voc", "coco", "detrec")
        self._give(place, "detector-onnx", "detector-onnx-all", "detector-mxnet-all")
        (place / "two.txt").write_text("".join(f"{name}\n" for name in CLASSES[:2]))


def _line(words: List[str]) -> Callable[[], Any]:
    """A call of the package, or of its runtime where that is the first word."""
    if words[0] == "runtime":
        return command(*words[1:], runtime=True)
    return _whole_results(shown_or_refused(words)) if words[0] == "predict" else shown_or_refused(words)


def _whole_results(run: Callable[[], Any]) -> Callable[[], Any]:
    """A command that goes on without the images that it cannot read: what it wrote of the others must be whole."""

    def call():
        before = set(Path.cwd().rglob("*"))
        code = run()
        made = [path for path in Path.cwd().rglob("*") if path not in before] if code == 1 else []
        for path in sorted(made, reverse=True):
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.is_file():
                Image.open(path).load()
            path.rmdir() if path.is_dir() else path.unlink()
        return code

    return call


def _detection() -> Any:
    from gluon_effnets import detection

    return detection


def _net(**options: Any) -> Any:
    return _detection().get_detector(DETECTOR, **{"classes": CLASSES[:2], **options})


def _trained() -> Any:
    return _detection().load_detector(f"{DETECTOR}.params")


def _export(*args: Any, **options: Any) -> Any:
    from gluon_effnets.deploy import export

    return export(*args, **options)


def _detect(*args: Any, **options: Any) -> Any:
    from gluon_effnets.evaluate import detect_images

    return detect_images(*args, **options)


def _runtime(name: str = "detector-onnx/net.json") -> Any:
    from gluon_effnets.runtime import load

    return load(name)


def _settings(**values: Any) -> Any:
    from gluon_effnets.train.data import open_data
    from gluon_effnets.train.data.settings import DataSettings

    return open_data(DataSettings(**{"source": "voc:voc", "image_size": 32, "batch_size": 2, **values}), seed=0)


def _scored(values: Any, part: str) -> Any:
    """Scores of an image of which one part is something else."""
    scores = _detection().DetectionScores(2, "voc07")
    truth = _detection().Truth("1.jpg", (48, 40), np.array([[1, 1, 9, 9]]), np.array([0]), np.zeros(1, bool))
    found = {"boxes": np.array([[1, 1, 9, 9]]), "scores": [0.5], "classes": [0]}
    if part in truth._fields:
        truth = truth._replace(**{part: values})
    elif part in found:
        found[part] = values
    else:
        truth = values
    scores.add(truth, **found)
    scores.rows()
    return scores.result().mean


_CALLS = (
    lambda x: _detection().get_detector(x),
    lambda x: _net(classes=x),
    lambda x: _net(pretrained_base=x),
    lambda x: _net(bn_epsilon=x),
    lambda x: _net(**{str(x)[:50]: x}),
    lambda x: _net().reset_class(x),
    lambda x: _detection().load_detector(x),
    lambda x: _detection().load_detector(f"{DETECTOR}.params", name=x),
    lambda x: _detection().detector_info(x),
    lambda x: _detection().get_detector("ssdlite320_mobilenext_x0_35", form=x),
    lambda x: _detection().get_detector("ssdlite320_mobilenext_x0_35", selection=x),
    lambda x: _detection().get_detector("fssd300_ds_mobilenet_v1", width=x),
    lambda x: _trained().detect(_images(), x),
    lambda x: _trained().load_parameters(x),
    lambda x: setattr(_trained(), "classes", x),
    lambda x: _detection().DetectionScores(x),
    lambda x: _detection().DetectionScores(2, x),
    lambda x: _scored(x, "truth"),
    lambda x: _scored(x, "image"),
    lambda x: _scored(x, "size"),
    lambda x: _scored(x, "boxes"),
    lambda x: _scored(x, "scores"),
    lambda x: _scored(x, "classes"),
    lambda x: _scored(x, "difficult"),
    lambda x: _scored(x, "areas"),
    lambda x: _detection().DetectionScores.of_rows(2, "voc12", x),
    lambda x: _export(_net(), "new/net", x),
    lambda x: _export(_trained(), "new/net", x),
    lambda x: _export(_trained(), "new/net", format=x),
    lambda x: _export(_trained(), "new/net", format="onnx", batch=x),
    lambda x: _export(_trained(), "new/net", names=x),
    lambda x: _export(_trained(), "new/net", int8=x),
    lambda x: _export(_trained(), "new/net", license=x),
    lambda x: _detect(x, [PHOTO]),
    lambda x: _detect(_trained(), x),
    lambda x: _detect(_trained(), [x]),
    lambda x: _detect(_trained(), [PHOTO], x),
    lambda x: _runtime()(x),
    lambda x: _runtime()([x]),
    lambda x: _runtime()(PHOTO, x),
    lambda x: _runtime()(PHOTO, batch=x),
    lambda x: _runtime("detector-onnx-all/net.json").arrays(x),
    lambda x: _settings(eval_parts=x),
    lambda x: _settings(train_parts=x),
    lambda x: _settings(bad_boxes=x),
    lambda x: _settings(augment=x),
    lambda x: _settings(source=x),
)


def _images() -> Any:
    import mxnet as mx

    return mx.nd.zeros((1, 3, 64, 64))
