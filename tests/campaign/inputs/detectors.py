"""Detectors: their weights, and their exports read by each runtime."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any, Callable

from .. import damage
from ..judge import Call
from ..sources import DETECTOR, DETECTOR_EXPORTS, REGIONS, put
from .exports import damaged_graph
from .room import PHOTO, Room, command, sealed


class Detectors(Room):
    """Weights and exports of detectors."""

    def detector_weights(self, place: Path, draw: Random) -> Call:
        """Weights of a detector, with a digest or without one."""
        name = draw.choice([DETECTOR, DETECTOR, DETECTOR, REGIONS])
        file = f"{name}{draw.choice(['', '-bare', '-bare'])}.params"
        path = self._give(place, file, PHOTO, "voc")
        content = path.read_bytes()
        damaged = damage.of_bytes(content, draw)
        put(path, damaged)
        lines = [
            _predicted(name, path),
            _predicted(name, path),
            command("validate", name, path, "--data", "voc:voc"),
            command("export", name, path, "new/net", "--format", draw.choice(["onnx", "mxnet"])),
        ]
        return Call(draw.choice(lines[: 4 if name == DETECTOR else 2]), damaged=damaged != content)

    def detector_numbers(self, place: Path, draw: Random) -> Call:
        """Weights with a digest of their own that say another detector, other classes, or numbers out of all bounds."""
        import mxnet as mx

        from gluon_effnets.files.write import write_arrays
        from gluon_effnets.models.params import IDENTITY, load_arrays

        name = draw.choice([DETECTOR, DETECTOR, DETECTOR, REGIONS])
        path = self._give(place, f"{name}.params", PHOTO)
        arrays = load_arrays(path)
        if draw.random() < 0.6:
            text = damage.of_json(arrays[IDENTITY].asnumpy().tobytes(), draw)[:1_000_000] or b" "
            arrays[IDENTITY] = mx.nd.array(bytearray(text), dtype="uint8")
        else:
            for key in draw.sample(sorted(arrays.keys() - {IDENTITY}), draw.choice([1, 1, 5])):
                value = draw.choice([float("nan"), float("inf"), 3e38, -3e38, 1e20, -1e20, 1e4, 0, 1e-45])
                arrays[key] = mx.nd.full(arrays[key].shape, value)
        path.unlink()
        write_arrays(path, arrays, with_digest=True)
        export = command("export", name, path, "new/net", "--format", draw.choice(["onnx", "mxnet"]))
        return Call(draw.choice([_predicted(name, path), _predicted(name, path), export]))

    def detector_descriptions(self, place: Path, draw: Random) -> Call:
        """The JSON files of exported detectors: how detections are chosen, which arrays there are, and all else."""
        path = self._export(place, draw.choice(sorted(DETECTOR_EXPORTS)))
        self._give(place, "voc")
        tree = json.loads(path.read_bytes())
        if draw.random() < 0.5:
            key = draw.choice(["selection", "selection", "selection", "outputs", "task", *sorted(tree)])
            whole = isinstance(tree[key], (dict, list))
            tree[key] = damage.of_tree(tree[key], draw) if whole else draw.choice(damage.ODD_VALUES)
            put(path, damage.written(tree, draw))
        else:
            put(path, damage.of_json(path.read_bytes(), draw))
        return Call(_read(path, draw))

    def detector_files(self, place: Path, draw: Random) -> Call:
        """The graphs and weights beside them, mostly under a digest of their own."""
        path = self._export(place, draw.choice(sorted(DETECTOR_EXPORTS)))
        self._give(place, "voc")
        other = draw.choice(sorted(one for one in path.parent.iterdir() if one != path))
        content = other.read_bytes()
        if other.name.endswith("-symbol.json") and draw.random() < 0.8:
            damaged = damage.written(damaged_graph(json.loads(content), draw), draw)
        else:
            damaged = damage.of_bytes(content, draw)
        put(other, damaged)
        if draw.random() < 0.8:
            sealed(path, other)
        if other.suffix == ".onnx" and draw.random() < 0.3:
            path.unlink()
            return Call(command(other, PHOTO, "--score", 0.1, "--threads", 1, runtime=True), damaged=damaged != content)
        return Call(_read(path, draw), damaged=damaged != content)


def _predicted(*words: Any) -> Callable[[], Any]:
    return command("predict", *words, PHOTO, "--score-above", 0.1)


def _read(path: Path, draw: Random) -> Callable[[], Any]:
    """An exported detector, read by the package, or by the runtime without MXNet."""
    calls = [_predicted(path), _predicted(path), command("validate", path, "--data", "voc:voc"), command("card", path)]
    if "onnx" in path.parent.name:
        calls += [command(path, PHOTO, "--score", 0.1, "--threads", 1, runtime=True)] * 3
    return draw.choice(calls)
