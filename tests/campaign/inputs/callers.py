"""Callers: command lines, and files that are none."""

from __future__ import annotations

import functools
from pathlib import Path
from random import Random
from typing import Any, Callable, List

from .. import damage
from ..judge import Call
from ..sources import TFLITE_MODEL, TORCH_MODEL
from .calls import CALLS, Values, called_wrongly
from .pictures import validated
from .room import PHOTO, Room, command, told
from .texts import as_word, built, odd_value


class Callers(Room):
    """Who calls with something wrong."""

    def python(self, place: Path, draw: Random) -> Call:
        """Functions of the package called with values of the wrong kind."""
        self._give(place, "sealed.params", "onnx", PHOTO, "timm.safetensors")
        return Call(functools.partial(called_wrongly, values=Values(draw), call=CALLS[draw.randrange(len(CALLS))]))

    def words(self, place: Path, draw: Random) -> Call:
        """Command lines with words that are wrong, missing or too many."""
        self._give(place, "sealed.params", "onnx", PHOTO, "names.txt", "records", "images")
        return Call(shown_or_refused(wrong_words(draw.choice(LINES), draw)))

    def special_files(self, place: Path, draw: Random) -> Call:
        """Pipes, devices, folders, sockets and links in circles where a file or folder is read."""
        self._give(place, "sealed.params", "onnx", "mxnet", PHOTO, "names.txt", "records", "images", "tiny.yaml", "run")
        self._give(place, "timm.safetensors", "timm.npz", "timm.pth", "net.tflite", "train.lst")
        name, words = draw.choice(_READERS)
        kind = damage.special(place / name, draw)
        if words[0] == "validate":
            return Call(validated(*words[1:]))
        if words[0] == "train":
            return Call(functools.partial(built, place / name, []))
        if words[0] == "records":
            return Call(told(command(*words, runtime=True)))
        # What is not there cannot be damaged.
        return Call(command(*words), damaged=kind != "none")


LINES = (
    "predict idle_tiny sealed.params photo.png --top 2",
    "predict idle_tiny sealed.params photo.png --batch 3 --image-size 32",
    "predict onnx/net.json photo.png --names names.txt --format json",
    "validate idle_tiny sealed.params --data recordio:records --set data.image_size=32",
    "validate idle_tiny sealed.params --data folder:images --format csv",
    "export idle_tiny sealed.params new/net --format onnx --image-size 32 --batch 2",
    "export idle_tiny sealed.params new/net --names names.txt --license MIT",
    "export idle_tiny sealed.params new/net --width 1 --raw-input",
    "convert --model idle_tiny sealed.params new/net.safetensors --to safetensors",
    "info idle_tiny --image-size 64 --classes 10 --format json",
    "classes images/train new/classes.txt",
    "card onnx/net.json new/card.md",
    "weights --format csv",
    "list --format csv",
    "table shufflenet",
    "table mobilenext --number 2 --format json",
    "compare-int8 idle_tiny=sealed.params --data recordio:records --images 3",
)


def wrong_words(line: str, draw: Random) -> List[str]:
    """A command line with one or two words changed, left out, or too many."""
    words = line.split()
    for _ in range(draw.choice([1, 1, 2])):
        at = draw.randrange(len(words))
        kind = draw.randrange(5)
        if kind <= 2:
            words[at] = as_word(odd_value(draw))
        elif kind == 3 and len(words) > 1:
            del words[at]
        else:
            words.insert(at, draw.choice(["--format", "--json", "-o", "--", "--top", "--set", "extra", "-1"]))
    return words


def shown_or_refused(words: List[str]) -> Callable[[], Any]:
    # A path that is no file of the case may be one of this machine.
    return command(*(f"./{word}" if word.startswith("/") else word for word in words))


_READERS = (
    ("sealed.params", ("predict", "idle_tiny", "sealed.params", PHOTO)),
    (PHOTO, ("predict", "idle_tiny", "sealed.params", PHOTO)),
    (PHOTO, ("predict", "onnx/net.json", PHOTO)),
    ("names.txt", ("predict", "idle_tiny", "sealed.params", PHOTO, "--names", "names.txt")),
    ("onnx/net.json", ("predict", "onnx/net.json", PHOTO)),
    ("onnx/net.onnx", ("predict", "onnx/net.json", PHOTO)),
    ("mxnet/net-symbol.json", ("predict", "mxnet/net.json", PHOTO)),
    ("mxnet/net-0000.params", ("predict", "mxnet/net.json", PHOTO)),
    ("mxnet/net.json", ("card", "mxnet/net.json")),
    ("timm.safetensors", ("convert", "--model", TORCH_MODEL, "timm.safetensors", "new.params")),
    ("timm.npz", ("convert", "--model", TORCH_MODEL, "timm.npz", "new.params")),
    ("timm.pth", ("convert", "--model", TORCH_MODEL, "timm.pth", "new.params")),
    ("net.tflite", ("convert", "--model", TFLITE_MODEL, "net.tflite", "new.params")),
    ("train.lst", ("classes", "train.lst", "classes.txt")),
    ("images", ("classes", "images", "classes.txt")),
    ("images/val/ant", ("validate", "images", "folder")),
    ("images/val/ant/0.png", ("validate", "images", "folder")),
    ("records/val.rec", ("validate", "records")),
    ("records/val.idx", ("validate", "records")),
    ("records/classes.txt", ("validate", "records")),
    ("records", ("validate", "records")),
    ("records/val.rec", ("records", "check", "records/val.rec")),
    ("records/val.idx", ("records", "check", "records/val.rec")),
    ("tiny.yaml", ("train",)),
    (
        "run/checkpoints/update-00000004",
        ("convert", "--model", "idle_tiny", "run/checkpoints/update-00000004", "new.params"),
    ),
    (
        "run/checkpoints/update-00000004/run.json",
        ("convert", "--model", "idle_tiny", "run/checkpoints/update-00000004", "new.params"),
    ),
    (
        "run/checkpoints/update-00000004/net.params",
        ("convert", "--model", "idle_tiny", "run/checkpoints/update-00000004", "new.params"),
    ),
)
