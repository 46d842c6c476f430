"""Exported files: descriptions, manifests, graphs and digests."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any, Dict

from .. import damage
from ..judge import Call
from ..sources import put
from .room import PHOTO, Room, command, sealed


class Exports(Room):
    """Exports of networks."""

    def descriptions(self, place: Path, draw: Random) -> Call:
        """The JSON files of exports."""
        path = self._export(place, draw.choice(["mxnet", "onnx", "int8", "onnx"]))
        put(path, damage.of_json(path.read_bytes(), draw))
        words = draw.choice([["predict", path, PHOTO], ["predict", path, PHOTO], ["card", path]])
        return Call(command(*words))

    def routed_manifests(self, place: Path, draw: Random) -> Call:
        """The JSON files of routed exports."""
        path = self._export(place, draw.choice(["routed-mxnet", "routed-onnx", "routed-single"]))
        put(path, damage.of_json(path.read_bytes(), draw))
        return Call(command("predict", path, PHOTO))

    def exported_files(self, place: Path, draw: Random) -> Call:
        """The files beside them, whose digests then tell."""
        path = self._export(place, "mxnet" if draw.random() < 0.5 else draw.choice(["onnx", "int8"]))
        path = path if draw.random() < 0.8 else place / "none"
        if path.name == "none":
            path = self._export(place / _made(place, "routed"), draw.choice(["routed-mxnet", "routed-onnx"]))
        others = sorted(one for one in path.parent.iterdir() if one != path)
        other = draw.choice(others)
        content = other.read_bytes()
        damaged = damage.of_bytes(content, draw)
        put(other, damaged)
        photo = path.parent.parent / PHOTO
        return Call(command("predict", path, photo), damaged=damaged != content)

    def symbols(self, place: Path, draw: Random) -> Call:
        """Graphs of MXNet under a digest of their own."""
        path = self._export(place, draw.choice(["mxnet", "mxnet", "int8"]))
        graph = path.with_name("net-symbol.json")
        tree = json.loads(graph.read_bytes())
        if draw.random() < 0.15:
            content = damage.of_json(graph.read_bytes(), draw)
        else:
            content = damage.written(damaged_graph(tree, draw), draw)
        sealed(path, put(graph, content))
        return Call(command("predict", path, PHOTO))

    def onnx(self, place: Path, draw: Random) -> Call:
        """Files of ONNX under a digest of their own, read by ONNX Runtime."""
        path = self._export(place, "onnx")
        model = path.with_name("net.onnx")
        sealed(path, put(model, damage.of_bytes(model.read_bytes(), draw)))
        return Call(command("predict", path, PHOTO))

    def runtime(self, place: Path, draw: Random) -> Call:
        """Descriptions and files of ONNX, read by the runtime without MXNet."""
        path = self._export(place, draw.choice(["onnx", "onnx", "routed-onnx", "routed-single"]))
        kind = draw.randrange(4)
        if kind <= 1:
            put(path, damage.of_json(path.read_bytes(), draw))
        else:
            model = draw.choice(sorted(path.parent.glob("*.onnx")))
            put(model, damage.of_bytes(model.read_bytes(), draw))
            if kind == 3:
                path.unlink()
                path = model
            else:
                sealed(path, model)
        return Call(command(path, PHOTO, "--threads", 1, runtime=True))


def _made(place: Path, name: str) -> str:
    (place / name).mkdir()
    return name


def damaged_graph(tree: Dict[str, Any], draw: Random) -> Any:
    """Change an operator, a setting, an input or a node of a graph."""
    if draw.random() < 0.3:
        return damage.of_tree(tree, draw)
    for _ in range(draw.choice([1, 1, 3])):
        node, kind = draw.choice(tree["nodes"]), draw.randrange(6)
        settings = node.get("attrs", {})
        if kind == 0:
            operators = [
                "Custom",
                "_Native",
                "_NDArray",
                "_foreach",
                "_contrib_quantize",
                "Reshape",
                "Pad",
                "Pooling",
                "x",
            ]
            node["op"] = draw.choice([*operators, *(one["op"] for one in tree["nodes"])])
        elif kind <= 2 and settings:
            values = [
                "-1",
                "0",
                "(0, 0)",
                "(1000000, 1000000)",
                "(9,)",
                str(2**31),
                str(2**63),
                "nan",
                "1e400",
                "None",
                "",
                "(",
            ]
            settings[draw.choice(sorted(settings))] = draw.choice([*values, *(list(settings.values()))])
        elif kind == 3:
            node.setdefault("attrs", {})[draw.choice(["op_type", "__ctx_group__", "workspace", "p", "mode"])] = "canary"
        elif kind == 4 and node["inputs"]:
            place = draw.randrange(len(node["inputs"]))
            node["inputs"][place] = [
                draw.choice([0, 1, len(tree["nodes"]), -1, 2**40, draw.randrange(len(tree["nodes"]))]),
                0,
                0,
            ]
        else:
            node["inputs"] = draw.choice([node["inputs"] * 2, node["inputs"][1:], draw.choice(tree["nodes"])["inputs"]])
    return tree
