"""Images: files, RecordIO files and folders of them."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import zlib
from pathlib import Path
from random import Random
from typing import Any, Callable

import numpy as np

from .. import damage
from ..judge import Call
from ..sources import SIDE, put
from .room import Room, command, told

SUFFIXES = ("png", "jpg", "bmp", "webp")


class Pictures(Room):
    """Images and what holds them."""

    def images(self, place: Path, draw: Random) -> Call:
        """Images of four kinds: bytes, names that lie, and pictures of too many pixels."""
        suffix = draw.choice(["png", "jpg", "bmp", "webp"])
        path = self._give(place, f"photo.{suffix}", "sealed.params", "onnx")
        kind = draw.randrange(8)
        if kind == 0:
            put(path, _bomb(draw))
        elif kind == 1:
            path = path.rename(
                path.with_suffix(f".{draw.choice(['png', 'jpg', 'bmp', 'webp', 'tif', 'txt', ''])}".rstrip("."))
            )
        else:
            put(path, damage.of_bytes(path.read_bytes(), draw))
        other = command("onnx/net.json", path, runtime=True), command("predict", "onnx/net.json", path)
        return Call(draw.choice([command("predict", "idle_tiny", "sealed.params", path), *other]))

    def records(self, place: Path, draw: Random) -> Call:
        """RecordIO files and their indexes: evaluated, trained on, checked, listed, repaired."""
        self._give(place, "records", "sealed.params")
        part = draw.choice(["train", "val"])
        path = place / "records" / f"{part}.{draw.choice(['rec', 'rec', 'rec', 'idx'])}"
        change = damage.of_lines if path.suffix == ".idx" and draw.random() < 0.7 else damage.of_bytes
        put(path, change(path.read_bytes(), draw))
        whole = path.with_suffix(".rec")
        # What these three say of damage goes to standard output.
        if draw.random() < 0.4:
            words = draw.choice(
                [["check", whole], ["check", whole, "--decode"], ["list", whole], ["repair", whole, "new.rec"]]
            )
            return Call(told(command("records", *words, runtime=True)))
        return Call(draw.choice([validated("records"), functools.partial(read_data, "recordio:records", part)]))

    def folders(self, place: Path, draw: Random) -> Call:
        """Folders of images: files, folders and links where none should be."""
        self._give(place, "images", "sealed.params")
        for _ in range(draw.choice([1, 2])):
            paths = sorted((place / "images").rglob("*"))
            path = draw.choice(paths)
            kind = draw.randrange(6)
            if kind == 0 and path.is_file():
                put(path, damage.of_bytes(path.read_bytes(), draw))
            elif kind == 1:
                damage.special(path, draw)
            elif kind == 2:
                path.rename(
                    path.with_name(draw.choice(["x", ".hidden", "a\nb", "Ä" * 60, "val", "\x1b[2J", " ", "b.png"]))
                )
            elif kind == 3:
                with contextlib.suppress(FileExistsError):  # of the change before
                    (path.parent / "loop").symlink_to("." if draw.random() < 0.5 else "..")
            elif kind == 4:
                damage.special(path.parent / "new.png", draw)
            else:
                os.makedirs(path.parent / draw.choice(["new", "deep/" * 60 + "x"]), exist_ok=True)
        calls = [validated("images", "folder"), functools.partial(read_data, "folder:images", "train")]
        words = ["classes", "images/train", "classes.txt"], ["predict", "idle_tiny", "sealed.params", "images"]
        return Call(draw.choice([*calls, *(command(*line) for line in words)]))


def _bomb(draw: Random) -> bytes:
    """A small file of a picture with very many pixels, or none."""
    from PIL import Image

    width, height = draw.choice([(30_000, 30_000), (65_535, 1), (1, 65_535), (1, 1), (60_000, 60_000), (0, 0)])
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def validated(folder: str, kind: str = "recordio") -> Callable[[], Any]:
    settings = ["--set", f"data.image_size={SIDE}"]
    return command("validate", "idle_tiny", "sealed.params", "--data", f"{kind}:{folder}", *settings)


def read_data(source: str, part: str) -> None:
    """All batches of a part of a data set."""
    from gluon_effnets.train.data import open_data
    from gluon_effnets.train.data.settings import DataSettings

    data = open_data(DataSettings(source=source, image_size=SIDE, batch_size=2, augment="none"), seed=0)
    batches = data.val_batches() if part == "val" else data.train_batches(0)
    for batch in batches:
        if not np.isfinite(batch.data.asnumpy()).all():
            print("nan% in a batch")
