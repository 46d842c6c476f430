"""The content of a checkpoint's folder: how it is checked and read, and how nested states become JSON and arrays.

Nothing is executed that a folder holds: there are no pickles, and what no run writes is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, NamedTuple, Tuple

import mxnet as mx

from ..files.params_header import load_arrays
from ..files.regular import beside, read_text, sha256
from ..files.schema import flag, optional, record, table_of, text, whole
from ..files.side_json import read_json
from ..models.card import check_marks

__all__ = ["FORMAT", "SUMS", "Content", "check", "flatten", "read", "read_record", "unflatten"]

SUMS = "SHA256SUMS"  # as sha256sum writes it: `sha256sum -c` checks a folder
FORMAT = 1


def check(folder: Path) -> None:
    """Compare a folder with its sums. Raises ValueError if a file is damaged, missing or of no sum."""
    lines = [line.partition("  ") for line in read_text(folder / SUMS, "sums").splitlines()]
    expected = {name: digest for digest, _, name in lines}
    for name in sorted({"run.json", *expected, *(path.name for path in folder.iterdir())} - {SUMS}):
        if expected.get(name) != sha256(beside(folder, name, folder / SUMS)):
            raise ValueError(f"{name} is damaged")


class Content(NamedTuple):
    """What is in a checkpoint folder."""

    run: dict
    net: Dict[str, mx.nd.NDArray]
    trainer: dict
    hooks: dict


def read(folder: Path) -> Content:
    """Return all of a checkpoint. Raises FileNotFoundError, or ValueError for what is damaged, or no run writes."""
    check(folder)
    run = read_record(folder)
    trainer = unflatten(run["trainer"], load_arrays(folder / "trainer.params"), folder)
    hooks = unflatten(run["hooks"], load_arrays(folder / "hooks.params"), folder)
    return Content(run, load_arrays(folder / "net.params"), trainer, hooks)


def read_record(folder: Path) -> dict:
    """Return run.json. Raises as `read` does."""
    run = read_json(folder / "run.json", "record of a checkpoint", finite=False)
    _RECORD(run, f"{folder / 'run.json'}")
    check_marks(run["identity"], f"the identity in {folder / 'run.json'}")
    return run


def _anything(value: Any, where: str) -> None:
    """Allow what JSON holds."""


_COUNT = whole(0, 1 << 50)
_OBJECT = table_of(_anything)
_RECORD = record(
    {
        "format": whole(FORMAT, FORMAT),
        "update": _COUNT,
        "workers": _COUNT,
        **dict.fromkeys(("recipe", "identity", "trainer", "hooks", "scores"), _OBJECT),
    },
    {
        "updates_per_epoch": _COUNT,
        "operators": optional(text()),
        "card": _OBJECT,
        "digests": table_of(text()),
        "evaluation_due": flag,
    },
)


def flatten(value) -> Tuple[Any, Dict[str, mx.nd.NDArray]]:
    """Split a nested value into JSON and arrays; arrays stand in the JSON as {"array": key}."""
    arrays: Dict[str, mx.nd.NDArray] = {}

    def walk(item):
        if isinstance(item, mx.nd.NDArray):
            arrays[str(len(arrays))] = item
            return {"array": str(len(arrays) - 1)}
        if isinstance(item, (list, tuple)):
            return {type(item).__name__: [walk(part) for part in item]}
        if isinstance(item, dict):
            return {"dict": [[key, walk(part)] for key, part in item.items()]}
        if item is None or isinstance(item, (bool, int, float, str)):
            return item
        raise TypeError(f"a checkpoint cannot hold a {type(item).__name__}: {item!r}")

    return walk(value), arrays


def unflatten(tree, arrays: Dict[str, mx.nd.NDArray], folder: Path) -> Any:
    """Join what `flatten` split. Raises ValueError, naming the folder, for what it did not write."""

    def join(part):
        if not isinstance(part, dict):
            return part
        [(kind, content)] = part.items()
        if kind == "array":
            return arrays[content]
        if kind == "dict":
            return {key: join(inner) for key, inner in content}
        return {"list": list, "tuple": tuple}[kind](map(join, content))

    try:
        return join(tree)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{folder} is damaged: its run.json and its arrays do not go together") from None
