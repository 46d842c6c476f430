"""Weights of all formats, and checkpoints."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from random import Random
from typing import Any, Callable, Dict

import numpy as np

from .. import damage
from ..judge import Call
from ..sources import SIDE, TFLITE_MODEL, TORCH_MODEL, put
from .room import PHOTO, Room, command, digest


class Touch:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch canary.ran",)


class Weights(Room):
    """Weights, ours and others'."""

    def sealed_params(self, place: Path, draw: Random) -> Call:
        """Weights of ours, which have a digest."""
        path = self._give(place, "sealed.params", PHOTO)
        content = path.read_bytes()
        damaged = damage.of_bytes(content, draw)
        put(path, damaged)
        words = ["predict", "idle_tiny", path, PHOTO]
        return Call(command(*words), same=True, damaged=damaged != content)

    def bare_params(self, place: Path, draw: Random) -> Call:
        """Weights as Gluon writes them, without a digest."""
        path = self._give(place, "bare.params", PHOTO)
        put(path, damage.of_bytes(path.read_bytes(), draw))
        if draw.random() < 0.3:
            return Call(command("export", "idle_tiny", path, "new/net", "--format", "onnx", "--image-size", SIDE))
        return Call(command("predict", "idle_tiny", path, PHOTO, "--image-size", SIDE))

    def safetensors(self, place: Path, draw: Random) -> Call:
        """Weights of others in safetensors: the header as JSON, and bytes."""
        path = self._give(place, "timm.safetensors")
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        if draw.random() < 0.7:
            header = damage.written(damaged_map(json.loads(content[8 : 8 + size]), draw), draw)
            content = len(header).to_bytes(8, "little") + header + content[8 + size :]
        else:
            content = damage.of_bytes(content, draw)
        return converted(put(path, content))

    def arrays(self, place: Path, draw: Random) -> Call:
        """Archives of NumPy: their directory, the headers in them, and bytes."""
        path = self._give(place, "timm.npz")
        content = path.read_bytes()
        if draw.random() < 0.6:
            content = _damaged_archive(content, draw)
        else:
            content = damage.of_bytes(content, draw)
        return converted(put(path, content))

    def pickles(self, place: Path, draw: Random) -> Call:
        """Files of PyTorch: their archive, the pickle in it, and pickles that would run code."""
        path = self._give(place, "timm.pth")
        kind = draw.randrange(10)
        if kind == 0:
            tree = draw.choice([Touch(), {"state_dict": Touch()}, [Touch()], {"conv.weight": Touch()}])
            content = pickle.dumps(tree, protocol=draw.randrange(6))
            content = content if draw.random() < 0.5 else replaced(path.read_bytes(), "data.pkl", content)
        elif kind <= 5:
            content = path.read_bytes()
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                name = draw.choice(
                    [name for name in archive.namelist() if name.endswith("data.pkl")] or archive.namelist()
                )
                inside = archive.read(name)
            content = replaced(content, name, damage.of_bytes(inside, draw))
        else:
            content = damage.of_bytes(path.read_bytes(), draw)
        return converted(put(path, content))

    def tflite(self, place: Path, draw: Random) -> Call:
        """Files of TensorFlow Lite."""
        path = self._give(place, "net.tflite")
        content = bytearray(path.read_bytes())
        if draw.random() < 0.6:
            # The tables of a flatbuffer stand behind the numbers of the weights.
            for _ in range(draw.choice([1, 2, 5])):
                place_in = draw.choice([draw.randrange(64), len(content) - 1 - draw.randrange(30_000)])
                width = draw.choice([1, 2, 4])
                value = draw.choice([0, 1, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]) % 256**width
                content[place_in : place_in + width] = value.to_bytes(width, "little")
            damaged = bytes(content)
        else:
            damaged = damage.of_bytes(bytes(content), draw)
        return converted(put(path, damaged))

    def checkpoints(self, place: Path, draw: Random) -> Call:
        """Checkpoints of a run: record, arrays and sums; a run goes on from an older one, or weights are taken out."""
        run = self._give(place, "run", "tiny.yaml")
        folder = sorted((run / "checkpoints").iterdir())[-1]
        path = draw.choice(sorted(folder.iterdir()))
        record = path.name == "run.json"
        put(path, damage.of_json(path.read_bytes(), draw) if record else damage.of_bytes(path.read_bytes(), draw))
        if draw.random() < 0.75:
            sums = [
                f"{digest(one)}  {one.name}\n" for one in sorted(folder.iterdir()) if one.suffix in (".json", ".params")
            ]
            listing = [one for one in folder.iterdir() if one.suffix not in (".json", ".params")]
            for one in listing[:1]:
                if one != path:
                    put(one, "".join(sums).encode())
        words = ["convert", "--model", "idle_tiny", folder, "new.params"]
        return Call(then_finite(command(*words, *draw.choice([[], ["--ema"]])), "new.params"))


def converted(path: Path) -> Call:
    model = TFLITE_MODEL if path.suffix == ".tflite" else TORCH_MODEL
    return Call(then_finite(command("convert", "--model", model, path, "new/net.params"), "new/net.params"))


def then_finite(run: Callable[[], Any], name: str) -> Callable[[], Any]:
    """After a success, see that the file can be read and holds numbers."""

    def call():
        code = run()
        if code == 0:
            from gluon_effnets.files.params_header import load_arrays

            for key, array in load_arrays(name).items():
                if not np.isfinite(array.asnumpy().astype("f8")).all():
                    print(f"nan% in {key}")
        return code

    return call


def damaged_map(tree: Dict[str, Any], draw: Random) -> Any:
    """Change one of many entries, or what is in it."""
    if draw.random() < 0.2:
        return damage.of_tree(tree, draw)
    key = draw.choice(sorted(tree))
    tree[key] = damage.of_tree(tree[key], draw) if isinstance(tree[key], dict) else draw.choice(damage.ODD_VALUES)
    return tree


def _damaged_archive(content: bytes, draw: Random) -> bytes:
    """Change a member of a .npz: its name, its header, its type, objects in place of numbers, or what it unpacks to."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        name = draw.choice(archive.namelist())
        inside = archive.read(name)
    kind = draw.randrange(6)
    if kind == 0:
        inside = damage.of_bytes(inside, draw)
    elif kind == 1:
        inside = _as_npy(np.array([Touch()], dtype=object))
    elif kind == 2:
        array = np.load(io.BytesIO(inside))
        types = ["c16", "f8", "f2", "i1", "?", "S3", "U2", "M8[s]", ">f4"]
        with np.errstate(all="ignore"):
            inside = _as_npy(array.astype(draw.choice(types), copy=True))
    elif kind == 3:
        shapes = ["(-1,)", "(99999999999,)", "(0,)", "()", f"({2**62}, 4)", "(1,) * 99", "x", "(10**9, 10**9, 10**9)"]
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {draw.choice(shapes)}, }}"
        head = head.ljust(117) + "\n"
        inside = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + inside[128:]
    elif kind == 4:
        inside = bytes(draw.choice([10**6, 10**8]))
    else:
        array = np.load(io.BytesIO(inside))
        value = draw.choice([np.nan, np.inf, -np.inf, 1e38])
        inside = _as_npy(np.full_like(array, value) if array.dtype.kind == "f" else array)
    return replaced(content, name, inside, draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))


def _as_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def replaced(content: bytes, name: str, inside: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with another content of the member that ends so."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for one in old.namelist():
            hit = one.endswith(name)
            new.writestr(one, inside if hit else old.read(one), method if hit else zipfile.ZIP_STORED)
    return made.getvalue()
