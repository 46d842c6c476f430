"""What an export says of itself in <prefix>.json, and any exported form loaded by it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ..models import Preprocessing
from .to_mxnet.files import symbol_runner
from .to_onnx.files import onnx_runner
from .to_tvm.compile import tvm_runner

__all__ = ["FORMATS", "Description", "ExportedNet", "open_exported", "read_names", "sha256"]

FORMATS = ("mxnet", "onnx")  # that `export` writes
_RUNNERS = {"mxnet": symbol_runner, "onnx": onnx_runner, "tvm": tvm_runner}
KIND = "gluon_effnets export"


@dataclasses.dataclass(frozen=True)
class Description:
    """The content of <prefix>.json: all that is needed to feed the files beside it and to read their answer.

    files : names in the folder of the JSON file.
    model, options, aligned : the network, the options it was built with, and whether its graph is the aligned one.
    input_shape : of `data`, (N, channels, height, width); None where any number is taken.
    num_classes : logits for each image.
    image_size, crop, interpolation : images are resized to `image_size` / `crop` at the shorter side, their centre is
        cut out.
    mean, std, channel_order : what is left to do to pixels of 0..255: mean and std of red, green and blue in this
        sequence; 0 and 1 if the graph normalizes.
    normalized_inside : mean and std that the graph applies, or None.
    names : of the classes, or None.
    difference, compared_on : largest difference of a logit from the network's, in standard deviations of the logits; of
        a library of TVM from ONNX Runtime's.
    versions : of the packages that wrote the files.
    folded : whether BN is part of the convolutions before it.
    fused, milliseconds : whether MXNet's files run faster with oneDNN's fused operators (None: it was not measured),
        and how long one image took as 'plain' and as 'fused', the latter only if its logits were right.
    int8 : of files in 8 bits, else None: `calibration_images`, `held_out_images`; on the latter `agreement`, the share
        of equal classes, and `difference` of the logits, root mean square in standard deviations; `float_layers`.
    tvm : of a library of TVM, else None: the `processor` it is for, as LLVM names it, for how many `threads`, and its
        `sha256`.
    """

    format: str
    files: Tuple[str, ...]
    model: str
    options: Dict[str, Any]
    aligned: bool
    input_shape: Tuple[Optional[int], ...]
    num_classes: int
    image_size: int
    crop: float
    interpolation: str
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    channel_order: str
    normalized_inside: Optional[Dict[str, Tuple[float, ...]]]
    names: Optional[Tuple[str, ...]]
    difference: float
    compared_on: Tuple[str, ...]
    versions: Dict[str, str]
    folded: Optional[bool] = None
    fused: Optional[bool] = None
    milliseconds: Optional[Dict[str, float]] = None
    int8: Optional[Dict[str, Any]] = None
    tvm: Optional[Dict[str, Any]] = None

    @property
    def preprocessing(self) -> Preprocessing:
        """What is left to do to the pixels."""
        return Preprocessing(self.mean, self.std, self.channel_order)

    @property
    def speed(self) -> Optional[str]:
        """What was measured of MXNet's files, in one line."""
        if self.milliseconds is None:
            return None
        times = ", ".join(f"{form} {value:.2f} ms" for form, value in self.milliseconds.items())
        wrong = "" if "fused" in self.milliseconds else " (fused gives other logits)"
        return f"one image on this CPU: {times}{wrong}; predict runs it {'fused' if self.fused else 'plain'}"

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        content = {"kind": KIND, **dataclasses.asdict(self)}
        if self.tvm is None:  # versions without this key refuse it, though they can run the other formats
            del content["tvm"]
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path) -> Description:
        """Raises FileNotFoundError, or ValueError if the file is not one that `export` or `tvm` wrote."""
        path = Path(path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"no exported network at {path}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("kind") != KIND:
                raise ValueError
            fields = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
            return cls(**fields)
        # Not JSON, not an object, another JSON file, other keys.
        except (ValueError, AttributeError, KeyError, TypeError):
            writer = "tvm" if path.suffix == ".so" else "export"
            hint = f"; give the JSON file that {writer} wrote beside it" if path.suffix != ".json" else ""
            raise ValueError(f"{path} does not describe an exported network, or is cut short{hint}") from None


class ExportedNet:
    """An exported network in its own runtime: (n, channels, height, width) -> logits (n, classes), n also at a fixed N.

    `description` says what the images need.
    """

    def __init__(self, description: Description, folder: Path):
        if description.format not in _RUNNERS:
            raise ValueError(f"format is {description.format!r}; this version runs {', '.join(_RUNNERS)}")
        files = [folder / name for name in description.files]
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"the exported network lacks {' and '.join(missing)}")
        self.description = description
        options: Dict[str, Any] = {"fused": True} if description.fused else {}
        if description.tvm:
            # Loading half a library ends the process.
            if sha256(files[0]) != description.tvm["sha256"]:
                raise ValueError(f"{files[0]} is cut short, or not the library that was described; compile it again")
            options["processor"] = description.tvm["processor"]
        self._run = _RUNNERS[description.format](*files, **options)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        batch = self.description.input_shape[0]
        if batch is None:
            return self._run(x)
        whole = np.resize(x, (math.ceil(len(x) / batch) * batch, *x.shape[1:]))
        parts = [self._run(whole[begin : begin + batch]) for begin in range(0, len(whole), batch)]
        return np.concatenate(parts)[: len(x)]


def open_exported(path) -> ExportedNet:
    """Load the exported network that a JSON file of `export`, or of the command `tvm`, describes.

    Raises FileNotFoundError or ValueError if a file is missing, cut short, something else or for another processor,
    ImportError if the runtime of its format is missing.
    """
    path = Path(path).expanduser()
    return ExportedNet(Description.read(path), path.parent)


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_names(path, num_classes: int) -> List[str]:
    """The lines of a text file, one name per class.

    Raises FileNotFoundError, or ValueError for another number of names.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no class names at {path}")
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(names) != num_classes:
        raise ValueError(f"{path} has {len(names)} names, but there are {num_classes} classes: one line for each")
    return names
