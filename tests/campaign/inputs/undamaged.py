"""What is whole, read in every way."""

from __future__ import annotations

import functools
from pathlib import Path
from random import Random

from ..judge import Call
from ..sources import SIDE
from .callers import LINES
from .pictures import SUFFIXES, read_data, validated
from .room import PHOTO, Room, command
from .texts import built
from .weights import converted


class Undamaged(Room):
    """Nothing is damaged, and all is answered."""

    def undamaged(self, place: Path, draw: Random) -> Call:
        """What is whole is answered; otherwise the parts below would test nothing."""
        names = ["sealed.params", "bare.params", "timm.pth", "timm.safetensors", "timm.npz"]
        names += ["net.tflite", "run", "tiny.yaml", "staged.yaml", "names.txt", "train.lst", "records", "images", PHOTO]
        names += [
            "photo.jpg",
            "photo.bmp",
            "photo.webp",
            "mxnet",
            "onnx",
            "int8",
            "routed-mxnet",
            "routed-onnx",
            "routed-single",
        ]
        self._give(place, *names)
        calls = [converted(place / name).run for name in names[2:6]]
        calls += [command("predict", "idle_tiny", name, PHOTO, "--image-size", SIDE) for name in names[:2]]
        calls += [command("predict", f"{name}/net.json", f"photo.{draw.choice(SUFFIXES)}") for name in names[-6:]]
        calls += [
            command(f"{name}/net.json", PHOTO, runtime=True)
            for name in names[-6:]
            if "mxnet" not in name and name != "int8"
        ]
        calls += [functools.partial(built, place / name, []) for name in ("tiny.yaml", "staged.yaml")]
        calls += [
            validated("records"),
            validated("images", "folder"),
            functools.partial(read_data, "recordio:records", "train"),
        ]
        calls += [
            command("convert", "--model", "idle_tiny", f"run/checkpoints/update-0000000{n}", "new.params", "--ema")
            for n in (2, 4)
        ]
        calls += [
            command("records", "check", "records/val.rec", runtime=True),
            command("classes", "train.lst", "new.txt"),
        ]
        calls += [command("card", "mxnet/net.json"), command(*LINES[5].split()), command(*LINES[2].split())]
        return Call(calls[draw.randrange(len(calls))], damaged=False)
