"""What an export says of itself in <prefix>.json."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ..class_names import read_lines
from ..files.regular import beside, sha256
from ..files.schema import Check, flag, list_of, number, one_of, optional, record, table_of, text, whole
from ..files.side_json import read_json
from ..files.write import write_text
from ..models import Preprocessing
from ..models.card import complete_preprocessing
from ..models.preprocessing import CHANNEL_ORDERS
from ..runtime.files import named

__all__ = ["Description", "Route", "as_metadata", "facts_of", "read_names", "sha256"]

PLAIN, ROUTED = "gluon_effnets export", "gluon_effnets routed export"


@dataclasses.dataclass(frozen=True)
class Route:
    """One of the widths: its index, the multiply-adds of an image that takes it, gate included, and its files.

    `files` : as those of the description; none if all routes are in one file.
    """

    width: int
    madds: int
    files: Tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Description:
    """The content of <prefix>.json: all that is needed to feed the files beside it and to read their answer.

    format : 'mxnet', 'onnx' or 'tvm'.
    files : names in the folder of the JSON file; with routes those of the graph before the decision ('head').
    model, options : the network, and the options it was built with.
    input_shape : of `data`, (N, channels, height, width); None where any number is taken.
    num_classes : logits for each image.
    image_size, crop, interpolation : images are resized to `image_size` / `crop` at the shorter side, their centre is
        cut out.
    mean, std, channel_order : what is left to do to pixels of 0..255: mean and std of red, green and blue in this
        sequence; 0 and 1 if the graph normalizes.
    difference, compared_on : largest difference of a logit from the network's, in standard deviations of the logits; of
        a library of TVM from ONNX Runtime's.
    versions : of the packages that wrote the files.
    aligned : whether the graph is the aligned one.
    normalized_inside : mean and std that the graph applies, or None.
    names : of the classes, or None.
    crop_first : whether an image's centre, `crop` times its shorter side, is cut out before it is resized.
    origin : of weights that others trained: `source`, `license`, ...; else None.
    folded : whether BN is part of the convolutions before it.
    fused, milliseconds : whether MXNet's files run faster with oneDNN's fused operators (None: it was not measured),
        and how long one image took as 'plain' and as 'fused', the latter only if its logits were right.
    fusion_refused : why the fused operators are not used although this MXNet has them, else None.
    int8 : of files in 8 bits, else None: `calibration_images`, `held_out_images`; on the latter `agreement`, the share
        of equal classes, and `difference` of the logits, root mean square in standard deviations; `float_layers`.
    tvm : of a library of TVM, else None: the `processor` it is for, as LLVM names it, for how many `threads`, and its
        `sha256`.
    routes : what a gate chooses from; the head's second output is a place in it. Empty for a network without a gate.
    sha256 : of every file, by its name; None in exports of older versions without routes.
    license : of the weights, as it was given to the export, or None.
    task : 'detection' of a detector, whose images are resized to `image_size` in both directions; None of a classifier.
    outputs : of a detector, the names of what its graph gives, in their order.
    selection : of a detector, how detections are chosen of all boxes; `Choice.of_table` reads it.
    runtime : what an ONNX file in float32 is to be fast in: 'onnxruntime', 'openvino', or 'portable' for both.
    blocks : channels in the blocks in which an ONNX file has its IdleBlocks, zeros in some; None: as they stand.
    """

    format: str
    files: Tuple[str, ...]
    model: str
    options: Dict[str, Any]
    input_shape: Tuple[Optional[int], ...]
    num_classes: int
    image_size: int
    crop: float
    interpolation: str
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    channel_order: str
    difference: float
    versions: Dict[str, str]
    compared_on: Tuple[str, ...] = ("random pixels",)
    aligned: bool = False
    normalized_inside: Optional[Dict[str, Tuple[float, ...]]] = None
    names: Optional[Tuple[str, ...]] = None
    crop_first: bool = False
    origin: Optional[Dict[str, str]] = None
    folded: Optional[bool] = None
    fused: Optional[bool] = None
    milliseconds: Optional[Dict[str, float]] = None
    int8: Optional[Dict[str, Any]] = None
    tvm: Optional[Dict[str, Any]] = None
    fusion_refused: Optional[str] = None
    routes: Tuple[Route, ...] = ()
    sha256: Optional[Dict[str, str]] = None
    license: Optional[str] = None
    task: Optional[str] = None
    outputs: Tuple[str, ...] = ()
    selection: Optional[Dict[str, Any]] = None
    runtime: Optional[str] = None
    blocks: Optional[int] = None

    @classmethod
    def of(cls, net, image_size: int, **rest: Any) -> Description:
        """Describe an export of a network: what `facts_of` tells, and `rest`, all other fields."""
        return cls(**{**facts_of(net, image_size), **rest})

    @property
    def preprocessing(self) -> Preprocessing:
        """What is to be done to an image."""
        resizing = (self.interpolation, self.crop, self.image_size, self.crop_first)
        return Preprocessing(self.mean, self.std, self.channel_order, *resizing)

    @property
    def in_channels(self) -> int:
        """The channels of an image."""
        channels = self.input_shape[1]
        assert channels is not None, "files take images of one number of channels"
        return channels

    @property
    def speed(self) -> Optional[str]:
        """What was measured of MXNet's files, in one line."""
        if self.milliseconds is None:
            return None
        times = ", ".join(f"{variant} {value:.2f} ms" for variant, value in self.milliseconds.items())
        wrong = "" if "fused" in self.milliseconds else f" ({self.fusion_refused or 'fused gives other logits'})"
        chosen = "fused" if self.fused else "plain"
        return f"one image on this CPU: {times}{wrong}; without compiled operators predict runs it {chosen}"

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        values = dataclasses.asdict(self)
        if self.routes:
            values.update(head=self.files, in_channels=self.in_channels)
            content = {"kind": ROUTED, **{key: values[key] for key in _ROUTED_KEYS}}
        else:
            content = {"kind": PLAIN, **{key: values[key] for key in _PLAIN_KEYS}}
        # Versions without these keys refuse them, though they can run the files.
        newer = _NEWER_ROUTED_KEYS if self.routes else _NEWER_KEYS
        content.update((key, values[key]) for key in newer if values[key] not in (None, False, ()))
        write_text(path, json.dumps(content, indent=1) + "\n")

    def files_in(self, folder: Path) -> List[List[Path]]:
        """Return the paths of `files`, and of those of every route, in a folder.

        Raises FileNotFoundError if one is missing, ValueError if a name leads elsewhere, or one is not as it was when
        it was described: half of it, or another export's, killed while it replaced this one. Older exports do not
        say how their files were.
        """
        whose = f"the description in {folder}"
        named = (self.files, *(route.files for route in self.routes))
        groups = [[beside(folder, name, whose) for name in names] for names in named]
        paths = [path for group in groups for path in group]
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"the exported network lacks {' and '.join(missing)}")
        what = "and the JSON file beside it were not written together, or are cut short; export again"
        digests = self.sha256
        if self.tvm:
            # Loading half a library ends the process.
            what = "is cut short, or not the library that was described; compile it again"
            digests = {self.files[0]: self.tvm["sha256"]}
        wrong = [str(path) for path in paths if digests is not None and digests.get(path.name) != sha256(path)]
        if wrong:
            raise ValueError(f"{' and '.join(wrong[:2])} {what}")
        return groups

    @classmethod
    def read(cls, path) -> Description:
        """Read the JSON file of any export.

        Raises FileNotFoundError, or ValueError if the file is not one that `export`, `export_routed` or the command
        `tvm` wrote.
        """
        path = Path(path).expanduser()
        try:
            content = read_json(path, "exported network")
            _is_object(content, "its content")
            reading = {PLAIN: cls._from_plain, ROUTED: cls._from_routed}.get(str(content.pop("kind", None)))
            if reading is None:
                raise ValueError("it is another JSON file")
            description = reading(content)
            description._check_counts()
        except ValueError as error:
            writer = "tvm" if path.suffix == ".so" else "export"
            hint = f"; give the JSON file that {writer} wrote beside it" if path.suffix != ".json" else f": {error}"
            raise ValueError(f"{named(path)} does not describe an exported network, or is cut short{hint}") from None
        return description

    def _check_counts(self) -> None:
        """Raises ValueError for fields that do not go together."""
        every = [self.files, *(route.files for route in self.routes)]
        if len({bool(route.files) for route in self.routes}) > 1:
            raise ValueError("some of its routes have no files")
        if len({route.width for route in self.routes}) < len(self.routes):
            raise ValueError("two of its routes have the same width")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} entries, std {len(self.std)}")
        if self.names is not None and len(self.names) != self.num_classes:
            raise ValueError(f"there are {len(self.names)} names, but {self.num_classes} classes")
        if self.tvm is None and self.format == "tvm":
            raise ValueError("a library of TVM has no facts under 'tvm'")
        if (self.task is None) != (self.selection is None) or bool(self.task) != bool(self.outputs):
            raise ValueError("task, outputs and selection belong together")
        if self.outputs not in ((), ("boxes", "scores"), ("boxes", "scores", "classes")):
            raise ValueError(f"outputs are {', '.join(self.outputs)}; a detector gives boxes, scores and classes")
        if self.task and self.format == "tvm":
            raise ValueError("detectors are not run by TVM")
        if self.routes and not {name for files in every for name in files} <= (self.sha256 or {}).keys():
            raise ValueError("sha256 does not name all of its files")

    @classmethod
    def _from_plain(cls, content: Dict[str, Any]) -> Description:
        _PLAIN_FILE(content, "the file")
        return cls(**_with_tuples(content))

    @classmethod
    def _from_routed(cls, content: Dict[str, Any]) -> Description:
        _ROUTED_FILE(content, "the file")
        # MXNet's files take any size that the network takes.
        side = content["image_size"] if content["format"] == "onnx" else None
        content["input_shape"] = (None, content.pop("in_channels"), side, side)
        content["files"] = content.pop("head")
        content["routes"] = [Route(**_with_tuples(route)) for route in content["routes"]]
        return cls(**_with_tuples(content))


def _with_tuples(content: Dict[str, Any]) -> Dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


# The keys of the JSON files, in their order. Older files lack the later ones; the newer ones stand there where they
# say something.
_PLAIN_KEYS = (
    *("format", "files", "model", "options", "aligned", "input_shape", "num_classes", "image_size", "crop"),
    *("interpolation", "mean", "std", "channel_order", "normalized_inside", "names", "difference", "compared_on"),
    *("versions", "folded", "fused", "milliseconds", "int8"),
)
_LATER_KEYS = ("folded", "fused", "milliseconds", "int8")
_NEWER_KEYS: Tuple[str, ...] = (
    *("tvm", "fusion_refused", "license", "crop_first", "origin", "sha256"),
    *("task", "outputs", "selection", "runtime", "blocks"),
)
_ROUTED_KEYS = (
    *("format", "model", "options", "head", "routes", "in_channels", "num_classes", "image_size", "crop"),
    *("interpolation", "mean", "std", "channel_order", "sha256", "difference", "versions"),
)
_NEWER_ROUTED_KEYS = ("names", "crop_first", "origin", "task", "outputs", "selection")


def _anything(value: Any, where: str) -> None:
    """Allow what JSON holds: nothing is computed with it."""


_NAMES = list_of(text(255), least=1, most=2)
_SCALE = {"mean": list_of(number(-1e6, 1e6), 1, 64), "std": list_of(number(0, 1e6, above=0), 1, 64)}
_SIDE = whole(1, 1 << 14)
_is_object = table_of(_anything)
_ROUTE = {"width": whole(0, 1000), "madds": whole(0, 1 << 62), "files": list_of(text(255), most=2)}
_PLACE = whole(0, 1 << 24)
_LIMIT = {"begin": _PLACE, "end": _PLACE, "best": whole(1, 1 << 24), "per_class": flag}
_SELECTION = {
    "score_above": number(0, 1),
    "overlap": number(0, 1),
    "per_image": whole(1, 1 << 20),
    "limits": list_of(record(_LIMIT), most=1000),
}
_CHECKS: Dict[str, Check] = {
    **_SCALE,
    "format": one_of("mxnet", "onnx", "tvm"),
    "files": _NAMES,
    "head": _NAMES,
    "model": text(1000),
    "options": _is_object,
    "aligned": flag,
    "input_shape": list_of(optional(_SIDE), 4, 4),
    "in_channels": whole(1, 64),
    "num_classes": whole(1, 10_000_000),
    "image_size": _SIDE,
    "crop": number(0, 1, above=0),
    "interpolation": text(100),
    "channel_order": one_of(*CHANNEL_ORDERS),
    "normalized_inside": optional(record(_SCALE)),
    "names": optional(list_of(text())),
    "difference": number(0),
    "compared_on": list_of(text()),
    "versions": table_of(text()),
    "folded": optional(flag),
    "fused": optional(flag),
    "milliseconds": optional(table_of(number(0))),
    "int8": optional(_is_object),
    "tvm": optional(record({"processor": text(100), "threads": whole(1, 10_000), "sha256": text(64)})),
    "fusion_refused": optional(text()),
    "license": optional(text()),
    "crop_first": flag,
    "origin": optional(table_of(text())),
    "routes": list_of(record(_ROUTE), 1, 1000),
    "sha256": optional(table_of(text(64))),
    "task": one_of("detection"),
    "outputs": list_of(text(100), 1, 10),
    "selection": record(_SELECTION),
    "runtime": one_of("portable", "onnxruntime", "openvino"),
    "blocks": optional(whole(1, 1000)),
}


def _checks(needed: Iterable[str], others: Iterable[str]) -> Check:
    return record({key: _CHECKS[key] for key in needed}, {key: _CHECKS[key] for key in others})


_PLAIN_FILE = _checks([key for key in _PLAIN_KEYS if key not in _LATER_KEYS], (*_LATER_KEYS, *_NEWER_KEYS))
_ROUTED_FILE = record(
    {**{key: _CHECKS[key] for key in _ROUTED_KEYS}, "format": one_of("mxnet", "onnx")},
    {key: _CHECKS[key] for key in _NEWER_ROUTED_KEYS},
)


def facts_of(net, image_size: int) -> Dict[str, Any]:
    """Return the fields of a description that a network tells of itself, for images of a size."""
    options, names, wanted = dict(net.identity), net.classes, complete_preprocessing(net)
    facts = {"model": options.pop("model"), "options": options, "num_classes": net.num_classes}
    facts["names"] = None if names is None else tuple(names)
    facts["origin"] = dict(net.origin) or None
    return {**facts, **wanted._replace(image_size=image_size)._asdict()}


def as_metadata(facts: Mapping[str, Any]) -> Dict[str, str]:
    """Return what is known of facts as texts, for files that hold texts by name: a text itself, all else as JSON."""
    known = {key: value for key, value in facts.items() if value is not None}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in known.items()}


def takes_any_files(path: Path) -> bool:
    """Whether a file is a description of an older version, without digests."""
    return path.is_file() and b'"sha256"' not in path.read_bytes()


def read_names(path, num_classes: int) -> List[str]:
    """Read the lines of a text file, one name per class.

    Raises FileNotFoundError, or ValueError for another number of names, or a file that `read_lines` refuses.
    """
    names = read_lines(path, "class names")
    if len(names) != num_classes:
        raise ValueError(f"{path} has {len(names)} names, but there are {num_classes} classes: one line for each")
    return names
