"""The kinds of input, each with a damaged case for every number."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from random import Random
from typing import Any, Callable, Dict, List

import numpy as np

from . import damage
from .judge import Call, Part
from .sources import CLASSES, SIDE, TFLITE_MODEL, TORCH_MODEL, given, put

PHOTO = "photo.png"
_SUFFIXES = ("png", "jpg", "bmp", "webp")


def _command(*words: Any, runtime: bool = False) -> Callable[[], Any]:
    """A call of `python -m gluon_effnets`, or of its runtime."""
    from gluon_effnets.__main__ import main
    from gluon_effnets.runtime.commands import main as runtime_main

    return functools.partial(runtime_main if runtime else main, [str(word) for word in words])


class Touch:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch canary.ran",)


class Parts:
    """All parts, over a folder of undamaged files."""

    def __init__(self, folder: Path):
        self.folder = folder

    def all(self) -> List[Part]:
        """The parts in the order in which they run."""
        names = [name for name in vars(type(self)) if not name.startswith("_") and name != "all"]
        return [Part(name, getattr(self, name)) for name in names]

    def _give(self, place: Path, *names: str) -> Path:
        return given(self.folder, place, *names)

    def _export(self, place: Path, kind: str) -> Path:
        self._give(place, kind, PHOTO)
        return place / kind / "net.json"

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
        calls = [self._convert(place / name).run for name in names[2:6]]
        calls += [_command("predict", "idle_tiny", name, PHOTO, "--image-size", SIDE) for name in names[:2]]
        calls += [_command("predict", f"{name}/net.json", f"photo.{draw.choice(_SUFFIXES)}") for name in names[-6:]]
        calls += [
            _command(f"{name}/net.json", PHOTO, runtime=True)
            for name in names[-6:]
            if "mxnet" not in name and name != "int8"
        ]
        calls += [functools.partial(_built, place / name, []) for name in ("tiny.yaml", "staged.yaml")]
        calls += [
            _validated("records"),
            _validated("images", "folder"),
            functools.partial(_read_data, "recordio:records", "train"),
        ]
        calls += [
            _command("convert", "--model", "idle_tiny", f"run/checkpoints/update-0000000{n}", "new.params", "--ema")
            for n in (2, 4)
        ]
        calls += [
            _command("records", "check", "records/val.rec", runtime=True),
            _command("classes", "train.lst", "new.txt"),
        ]
        calls += [_command("card", "mxnet/net.json"), _command(*_LINES[5].split()), _command(*_LINES[2].split())]
        return Call(calls[draw.randrange(len(calls))], damaged=False)

    # -- Exports -------------------------------------------------------------------------------------------------------

    def descriptions(self, place: Path, draw: Random) -> Call:
        """The JSON files of exports."""
        path = self._export(place, draw.choice(["mxnet", "onnx", "int8", "onnx"]))
        put(path, damage.of_json(path.read_bytes(), draw))
        words = draw.choice([["predict", path, PHOTO], ["predict", path, PHOTO], ["card", path]])
        return Call(_command(*words))

    def routed_manifests(self, place: Path, draw: Random) -> Call:
        """The JSON files of routed exports."""
        path = self._export(place, draw.choice(["routed-mxnet", "routed-onnx", "routed-single"]))
        put(path, damage.of_json(path.read_bytes(), draw))
        return Call(_command("predict", path, PHOTO))

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
        return Call(_command("predict", path, photo), damaged=damaged != content)

    def symbols(self, place: Path, draw: Random) -> Call:
        """Graphs of MXNet under a digest of their own."""
        path = self._export(place, draw.choice(["mxnet", "mxnet", "int8"]))
        graph = path.with_name("net-symbol.json")
        tree = json.loads(graph.read_bytes())
        if draw.random() < 0.15:
            content = damage.of_json(graph.read_bytes(), draw)
        else:
            content = damage.written(_damaged_graph(tree, draw), draw)
        _sealed(path, put(graph, content))
        return Call(_command("predict", path, PHOTO))

    def onnx(self, place: Path, draw: Random) -> Call:
        """Files of ONNX under a digest of their own, read by ONNX Runtime."""
        path = self._export(place, "onnx")
        model = path.with_name("net.onnx")
        _sealed(path, put(model, damage.of_bytes(model.read_bytes(), draw)))
        return Call(_command("predict", path, PHOTO))

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
                _sealed(path, model)
        return Call(_command(path, PHOTO, "--threads", 1, runtime=True))

    # -- Weights -------------------------------------------------------------------------------------------------------

    def sealed_params(self, place: Path, draw: Random) -> Call:
        """Weights of ours, which have a digest."""
        path = self._give(place, "sealed.params", PHOTO)
        content = path.read_bytes()
        damaged = damage.of_bytes(content, draw)
        put(path, damaged)
        words = ["predict", "idle_tiny", path, PHOTO]
        return Call(_command(*words), same=True, damaged=damaged != content)

    def bare_params(self, place: Path, draw: Random) -> Call:
        """Weights as Gluon writes them, without a digest."""
        path = self._give(place, "bare.params", PHOTO)
        put(path, damage.of_bytes(path.read_bytes(), draw))
        if draw.random() < 0.3:
            return Call(_command("export", "idle_tiny", path, "new/net", "--format", "onnx", "--image-size", SIDE))
        return Call(_command("predict", "idle_tiny", path, PHOTO, "--image-size", SIDE))

    def safetensors(self, place: Path, draw: Random) -> Call:
        """Weights of others in safetensors: the header as JSON, and bytes."""
        path = self._give(place, "timm.safetensors")
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        if draw.random() < 0.7:
            header = damage.written(_damaged_map(json.loads(content[8 : 8 + size]), draw), draw)
            content = len(header).to_bytes(8, "little") + header + content[8 + size :]
        else:
            content = damage.of_bytes(content, draw)
        return self._convert(put(path, content))

    def arrays(self, place: Path, draw: Random) -> Call:
        """Archives of NumPy: their directory, the headers in them, and bytes."""
        path = self._give(place, "timm.npz")
        content = path.read_bytes()
        if draw.random() < 0.6:
            content = _damaged_archive(content, draw)
        else:
            content = damage.of_bytes(content, draw)
        return self._convert(put(path, content))

    def pickles(self, place: Path, draw: Random) -> Call:
        """Files of PyTorch: their archive, the pickle in it, and pickles that would run code."""
        path = self._give(place, "timm.pth")
        kind = draw.randrange(10)
        if kind == 0:
            tree = draw.choice([Touch(), {"state_dict": Touch()}, [Touch()], {"conv.weight": Touch()}])
            content = pickle.dumps(tree, protocol=draw.randrange(6))
            content = content if draw.random() < 0.5 else _replaced(path.read_bytes(), "data.pkl", content)
        elif kind <= 5:
            content = path.read_bytes()
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                name = draw.choice(
                    [name for name in archive.namelist() if name.endswith("data.pkl")] or archive.namelist()
                )
                inside = archive.read(name)
            content = _replaced(content, name, damage.of_bytes(inside, draw))
        else:
            content = damage.of_bytes(path.read_bytes(), draw)
        return self._convert(put(path, content))

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
        return self._convert(put(path, damaged))

    def _convert(self, path: Path) -> Call:
        model = TFLITE_MODEL if path.suffix == ".tflite" else TORCH_MODEL
        return Call(_then_finite(_command("convert", "--model", model, path, "new/net.params"), "new/net.params"))

    def checkpoints(self, place: Path, draw: Random) -> Call:
        """Checkpoints of a run: record, arrays and sums; a run goes on from an older one, or weights are taken out."""
        run = self._give(place, "run", "tiny.yaml")
        folder = sorted((run / "checkpoints").iterdir())[-1]
        path = draw.choice(sorted(folder.iterdir()))
        record = path.name == "run.json"
        put(path, damage.of_json(path.read_bytes(), draw) if record else damage.of_bytes(path.read_bytes(), draw))
        if draw.random() < 0.75:
            sums = [
                f"{_digest(one)}  {one.name}\n"
                for one in sorted(folder.iterdir())
                if one.suffix in (".json", ".params")
            ]
            listing = [one for one in folder.iterdir() if one.suffix not in (".json", ".params")]
            for one in listing[:1]:
                if one != path:
                    put(one, "".join(sums).encode())
        words = ["convert", "--model", "idle_tiny", folder, "new.params"]
        return Call(_then_finite(_command(*words, *draw.choice([[], ["--ema"]])), "new.params"))

    # -- Texts ---------------------------------------------------------------------------------------------------------

    def recipes(self, place: Path, draw: Random) -> Call:
        """Recipes as YAML, and --set."""
        import yaml

        path = self._give(place, draw.choice(["tiny.yaml", "tiny.yaml", "staged.yaml"]))
        words = []
        kind = draw.randrange(4)
        if kind == 0:
            put(path, damage.of_lines(path.read_bytes(), draw))
        elif kind <= 2:
            try:
                tree = _without_modules(damage.of_tree(yaml.safe_load(path.read_text()), draw))
                put(path, yaml.safe_dump(tree).encode("utf-8", "surrogatepass"))
            except RecursionError:
                put(path, b"[" * 100_000)
        else:
            words = [_damaged_setting(draw) for _ in range(draw.choice([1, 1, 2]))]
        return Call(functools.partial(_built, path, words))

    def options(self, place: Path, draw: Random) -> Call:
        """Options of constructors, -o NAME=VALUE."""
        self._give(place, "sealed.params", PHOTO)
        names = [
            "bn_epsilon",
            "act",
            "dropout",
            "classes",
            "in_channels",
            "stem_stride",
            "width",
            "layout",
            "nothing",
            "",
        ]
        words = [f"{draw.choice(names)}{draw.choice(['=', '=', '=', '', ':'])}{_value(draw)}"]
        return Call(_command("predict", "idle_tiny", "sealed.params", PHOTO, "-o", *map(_word, words)))

    def names(self, place: Path, draw: Random) -> Call:
        """Names of classes: lists of lines, lists of im2rec."""
        kind = draw.randrange(3)
        if kind == 0:
            self._give(place, "names.txt", "sealed.params", PHOTO)
            put(place / "names.txt", damage.of_lines((place / "names.txt").read_bytes(), draw))
            return Call(_command("predict", "idle_tiny", "sealed.params", PHOTO, "--names", "names.txt"))
        if kind == 1:
            path = self._give(place, "train.lst")
            put(path, damage.of_lines(path.read_bytes(), draw))
            return Call(_command("classes", path, "classes.txt"))
        self._give(place, "records", "sealed.params")
        path = place / "records" / "classes.txt"
        put(path, damage.of_lines(path.read_bytes(), draw))
        return Call(_validated("records"))

    # -- Images --------------------------------------------------------------------------------------------------------

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
        other = _command("onnx/net.json", path, runtime=True), _command("predict", "onnx/net.json", path)
        return Call(draw.choice([_command("predict", "idle_tiny", "sealed.params", path), *other]))

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
            return Call(_told(_command("records", *words, runtime=True)))
        return Call(draw.choice([_validated("records"), functools.partial(_read_data, "recordio:records", part)]))

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
        calls = [_validated("images", "folder"), functools.partial(_read_data, "folder:images", "train")]
        words = ["classes", "images/train", "classes.txt"], ["predict", "idle_tiny", "sealed.params", "images"]
        return Call(draw.choice([*calls, *(_command(*line) for line in words)]))

    # -- Callers -------------------------------------------------------------------------------------------------------

    def python(self, place: Path, draw: Random) -> Call:
        """Functions of the package called with values of the wrong kind."""
        self._give(place, "sealed.params", "onnx", PHOTO, "timm.safetensors")
        return Call(functools.partial(_called_wrongly, _Values(draw), draw.randrange(len(_CALLS))))

    def words(self, place: Path, draw: Random) -> Call:
        """Command lines with words that are wrong, missing or too many."""
        self._give(place, "sealed.params", "onnx", PHOTO, "names.txt", "records", "images")
        words = draw.choice(_LINES).split()
        for _ in range(draw.choice([1, 1, 2])):
            at = draw.randrange(len(words))
            kind = draw.randrange(5)
            if kind <= 2:
                words[at] = _word(_value(draw))
            elif kind == 3 and len(words) > 1:
                del words[at]
            else:
                words.insert(at, draw.choice(["--format", "--json", "-o", "--", "--top", "--set", "extra", "-1"]))
        return Call(_shown_or_refused(words))

    def special_files(self, place: Path, draw: Random) -> Call:
        """Pipes, devices, folders, sockets and links in circles where a file or folder is read."""
        self._give(place, "sealed.params", "onnx", "mxnet", PHOTO, "names.txt", "records", "images", "tiny.yaml", "run")
        self._give(place, "timm.safetensors", "timm.npz", "timm.pth", "net.tflite", "train.lst")
        name, words = draw.choice(_READERS)
        kind = damage.special(place / name, draw)
        if words[0] == "validate":
            return Call(_validated(*words[1:]))
        if words[0] == "train":
            return Call(functools.partial(_built, place / name, []))
        if words[0] == "records":
            return Call(_told(_command(*words, runtime=True)))
        # What is not there cannot be damaged.
        return Call(_command(*words), damaged=kind != "none")


# -- Damage to files of one kind -------------------------------------------------------------------------------------


def _made(place: Path, name: str) -> str:
    (place / name).mkdir()
    return name


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sealed(description: Path, file: Path) -> None:
    """Give the description the digest that the damaged file has."""
    about = json.loads(description.read_bytes())
    about["sha256"][file.name] = _digest(file)
    put(description, json.dumps(about).encode())


def _damaged_graph(tree: Dict[str, Any], draw: Random) -> Any:
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


def _damaged_map(tree: Dict[str, Any], draw: Random) -> Any:
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
    return _replaced(content, name, inside, draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))


def _as_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _replaced(content: bytes, name: str, inside: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with another content of the member that ends so."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for one in old.namelist():
            hit = one.endswith(name)
            new.writestr(one, inside if hit else old.read(one), method if hit else zipfile.ZIP_STORED)
    return made.getvalue()


def _bomb(draw: Random) -> bytes:
    """A small file of a picture with very many pixels, or none."""
    from PIL import Image

    width, height = draw.choice([(30_000, 30_000), (65_535, 1), (1, 65_535), (1, 1), (60_000, 60_000), (0, 0)])
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def _without_modules(tree: Any) -> Any:
    """A recipe names modules of its author's own, which are imported: here nothing means it."""
    if isinstance(tree, dict):
        return {key: _without_modules(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_modules(value) for value in tree]
    return "no module" if isinstance(tree, str) and tree.startswith("canary:") else tree


_KEYS = (
    "optimizer.lr optimizer.name duration data.source data.image_size data.batch_size evaluate_every hooks.ema hooks "
    "schedule.name schedule model model_options.bn_epsilon precision seed data stages task data.augment x.y a..b ='' "
    "checkpoint_every optimizer.options.momentum data.workers data.mean accumulate"
).split()


def _value(draw: Random) -> str:
    one = draw.choice(damage.ODD_VALUES)
    text = one if isinstance(one, str) else json.dumps(one)
    return draw.choice(
        [text, text, f"[{text}", f"{{a: {text}}}", f"'{text}'", "5ep", "-3it", "0.5run", "&a [*a]", "!!set x"]
    )


def _word(text: str) -> str:
    """What a command line can hold."""
    return text.replace("\0", "").replace("\ud800", "?").replace("canary:touch", "canary")


def _damaged_setting(draw: Random) -> str:
    return _word(f"{draw.choice(_KEYS)}{draw.choice(['=', '=', '=', '=', ''])}{_value(draw)}")


# -- Calls -----------------------------------------------------------------------------------------------------------


def _then_finite(run: Callable[[], Any], name: str) -> Callable[[], Any]:
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


def _validated(folder: str, kind: str = "recordio") -> Callable[[], Any]:
    settings = ["--set", f"data.image_size={SIDE}"]
    return _command("validate", "idle_tiny", "sealed.params", "--data", f"{kind}:{folder}", *settings)


def _told(run: Callable[[], Any]) -> Callable[[], Any]:
    """A command that says on standard output what is damaged, and whose code is then 1."""
    import sys

    def call():
        code = run()
        if code == 1:
            print("error: damaged", file=sys.stderr)
        return code

    return call


def _read_data(source: str, part: str) -> None:
    """All batches of a part of a data set."""
    from gluon_effnets.train.data import open_data
    from gluon_effnets.train.data.settings import DataSettings

    data = open_data(DataSettings(source=source, image_size=SIDE, batch_size=2, augment="none"), seed=0)
    batches = data.val_batches() if part == "val" else data.train_batches(0)
    for batch in batches:
        if not np.isfinite(batch.data.asnumpy()).all():
            print("nan% in a batch")


def _built(path: Path, words: List[str]) -> None:
    """All that a run does before its first update."""
    from gluon_effnets.train.build import build
    from gluon_effnets.train.config import load_recipe
    from gluon_effnets.train.dist import Workers

    recipe = load_recipe(path, words)
    parts = recipe.split().values() if recipe.stages else [recipe]
    for one in parts:
        build(one, Path.cwd().parent, Workers())


_LINES = (
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
    "compare-int8 idle_tiny=sealed.params --data recordio:records --images 3",
)


def _shown_or_refused(words: List[str]) -> Callable[[], Any]:
    # A path that is no file of the case may be one of this machine.
    return _command(*(f"./{word}" if word.startswith("/") else word for word in words))


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


class _Values:
    """Draws a value of the wrong kind; the same for the same number."""

    def __init__(self, draw: Random):
        others = [
            object(),
            b"bytes",
            3 + 4j,
            int,
            {1, 2},
            lambda: 0,
            Path("nowhere"),
            np.zeros(3),
            np.float32("nan"),
            ...,
        ]
        self.one = draw.choice([*damage.ODD_VALUES, *others])


def _calls() -> List[Callable[[Any], Any]]:
    """Functions of the package, each with one argument of a stranger."""

    def models(x):
        from gluon_effnets import get_model

        return get_model

    def deploy():
        import gluon_effnets.deploy as deploy

        return deploy

    def net(**options):
        from gluon_effnets import get_model

        return get_model("idle_tiny", **options)

    def settings(**values):
        from gluon_effnets.train.data.settings import DataSettings

        return DataSettings(**{"source": "synthetic:8", **values})

    def runtime():
        import gluon_effnets.runtime as runtime

        return runtime

    def weights():
        import gluon_effnets.weights as weights

        return weights

    def classifier(*args, **options):
        from gluon_effnets.evaluate.predict import Classifier

        return Classifier(*args, **options)

    return [
        lambda x: models(x)(x),
        lambda x: net(pretrained=x),
        lambda x: net(classes=x),
        lambda x: net(in_channels=x),
        lambda x: net(bn_epsilon=x),
        lambda x: net(act=x),
        lambda x: net().reset_class(x),
        lambda x: models(x)("idle_tiny", **{str(x)[:50]: x}),
        lambda x: deploy().open_exported(x),
        lambda x: deploy().load_routed(x),
        lambda x: deploy().export(x, "new/net"),
        lambda x: deploy().export(net(pretrained="sealed.params", classes=None), "new/net", x),
        lambda x: deploy().export(net(pretrained="sealed.params", classes=None), "new/net", SIDE, format=x),
        lambda x: deploy().export(
            net(pretrained="sealed.params", classes=None), "new/net", SIDE, format="onnx", batch=x
        ),
        lambda x: deploy().export(net(pretrained="sealed.params", classes=None), "new/net", SIDE, int8=x),
        lambda x: weights().read_checkpoint(x),
        lambda x: weights().convert(x, "timm.safetensors", "new/net.params"),
        lambda x: weights().convert("idle_tiny", x, "new/net.params"),
        lambda x: settings(image_size=x),
        lambda x: settings(source=x),
        lambda x: settings(batch_size=x),
        lambda x: settings(augment=x),
        lambda x: runtime().load(x),
        lambda x: runtime().load("onnx/net.json", x),
        lambda x: runtime().load("onnx/net.json")(x),
        lambda x: runtime().load("onnx/net.json").top(PHOTO, x),
        lambda x: runtime().load("onnx/net.json").top(x),
        lambda x: classifier("idle_tiny", x),
        lambda x: classifier("idle_tiny", "sealed.params", x),
        lambda x: _card(classes=x),
        lambda x: _card(preprocessing=x),
        lambda x: _preprocessing(image_size=x),
        lambda x: _preprocessing(mean=x),
        lambda x: _preprocessing(crop=x),
        lambda x: _preprocessing(interpolation=x),
        lambda x: _count(x),
    ]


def _card(**values):
    from gluon_effnets import get_model

    net = get_model("idle_tiny", classes=len(CLASSES))
    for key, value in values.items():
        setattr(net, key, value)
    net.initialize()
    net.save_parameters("new.params")


def _preprocessing(**values):
    from gluon_effnets.models import Preprocessing

    return Preprocessing(**values)


def _count(size):
    from gluon_effnets import get_model
    from gluon_effnets.complexity import count

    return count(get_model("idle_tiny"), size)


_CALLS = _calls()


def _called_wrongly(values: _Values, number: int) -> None:
    _CALLS[number](values.one)
