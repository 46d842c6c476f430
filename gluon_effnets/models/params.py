"""Parameter files: written whole, read with clear errors, and marked with the network they belong to."""

from __future__ import annotations

import collections
import json
import re
from typing import Any, Collection, Dict, List, NamedTuple, Optional

import mxnet as mx
import numpy as np

from ..files.params_header import load_arrays
from ..files.side_json import parse_json
from ..files.write import write_arrays
from .card import Card, check_marks
from .preprocessing import Preprocessing

__all__ = ["Stored", "assign", "by_place", "check_identity", "classifier_in", "read", "require_finite", "save"]

# Beside the digest the one array of a file that is no parameter: JSON, as bytes, of what shapes do not show (model,
# padding, ...). The card's entries are in it, and no part of the identity, as any network can take weights of any card.
IDENTITY = "gluon_effnets.identity"


class Stored(NamedTuple):
    """Content of a file: `identity` is empty for files that others wrote, whose card says nothing."""

    arrays: Dict[str, mx.nd.NDArray]
    identity: Dict[str, Any]
    card: Card = Card()

    @property
    def preprocessing(self) -> Optional[Preprocessing]:
        """What the file is marked with; None for the usual one."""
        return None if self.card.preprocessing == Preprocessing() else self.card.preprocessing


def save(net, path, arrays: Optional[Dict[str, mx.nd.NDArray]] = None) -> None:
    """Write parameters, identity and card of a network, as `write_arrays` does.

    `arrays` : by the names of the parameters, in place of their values.
    """
    if arrays is None:
        arrays = {key: param._reduce() for key, param in net._collect_params_with_prefix().items()}
    text = json.dumps({**net.identity, **net.card.marks()}, sort_keys=True).encode()
    arrays = {**arrays, IDENTITY: mx.nd.array(np.frombuffer(text, np.uint8), dtype="uint8")}
    write_arrays(path, arrays, with_digest=True)


def read(path) -> Stored:
    """Read a `.params` file.

    Raises FileNotFoundError, or ValueError if it is no such file, cut short, or not as it was written.
    """
    arrays = load_arrays(path)
    if IDENTITY not in arrays:
        return Stored(arrays, {})
    where = f"the identity in {path}"
    identity = parse_json(arrays.pop(IDENTITY).asnumpy().tobytes(), where)
    card = Card.taken_from(identity, where)
    if not identity:
        return Stored(arrays, {}, card)
    check_marks(identity, where)
    return Stored(arrays, identity, card)


def assign(
    net,
    stored: Stored,
    path,
    *,
    ctx=None,
    allow_missing=False,
    ignore_extra=False,
    cast_dtype=False,
    dtype_source="current",
) -> None:
    """Give a network the stored arrays, all or none.

    Takes the names of `save_parameters`, of `collect_params().save` and of exported files. Raises ValueError saying
    what does not fit.
    """
    check_identity(net, stored.identity, path)
    params = net._collect_params_with_prefix()
    arrays = by_place(net, stored.arrays)
    missing = [] if allow_missing else sorted(params.keys() - arrays.keys())
    extra = [] if ignore_extra else sorted(arrays.keys() - params.keys())
    common = sorted(params.keys() & arrays.keys())
    shapes = [
        f"{key} {arrays[key].shape} for {params[key].shape}"
        for key in common
        if not _fits(params[key].shape, arrays[key].shape)
    ]
    if missing or extra or shapes:
        raise ValueError(
            f"{path} does not fit {net.identity['model']}; are these the weights of another network?\n"
            + "; ".join(
                _some(*kind) for kind in (("missing", missing), ("unknown", extra), ("shape", shapes)) if kind[1]
            )
        )
    if cast_dtype and dtype_source == "saved":
        # As Gluon has it: the parameters take the type of the file.
        values, cast = {key: arrays[key] for key in common}, {"cast_dtype": True, "dtype_source": "saved"}
    else:
        values, cast = {key: _of_type(arrays[key], params[key], f"{key} in {path}") for key in common}, {}
    # From here on nothing can fail.
    for key, value in values.items():
        params[key]._load_init(value, ctx, **cast)
    if stored.identity:
        names = stored.card.classes
        # A file may hold all but the classifier.
        fitting = names is not None and len(names) == net.num_classes
        net.card = stored.card._replace(classes=names if fitting else None)


def _fits(shape, stored) -> bool:
    """Whether an array has the shape of a parameter, in which 0 stands for a size not known yet."""
    return len(shape) == len(stored) and all(own in (0, size) for own, size in zip(shape, stored))


def _of_type(array: mx.nd.NDArray, param, what: str) -> mx.nd.NDArray:
    """An array in the type of a parameter. Raises ValueError where that changes more than the rounding of a float."""
    wanted, given = np.dtype(param.dtype), np.dtype(array.dtype)
    if wanted == given:
        return array
    if wanted.kind == "V":  # bfloat16, to NumPy
        return array.astype(param.dtype)
    values = array.astype("float32").asnumpy() if given.kind == "V" else array.asnumpy()
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(wanted)
    both_floats = values.dtype.kind == wanted.kind == "f"
    kept = (np.isfinite(cast) | ~np.isfinite(values)).all() if both_floats else (cast == values).all()
    if not kept:
        raise ValueError(f"{what} has numbers of type {given.name} that {wanted.name} cannot hold; save it as {wanted}")
    return mx.nd.array(cast, dtype=wanted)


def require_finite(net, path) -> None:
    """Raise ValueError, naming the parameter and the file, if a number in the weights is NaN or infinite."""
    for key, param in net._collect_params_with_prefix().items():
        # Indices are whole numbers.
        if np.dtype(param.dtype).kind == "f" and not mx.nd.all_finite(param.data(param.list_ctx()[0])).asscalar():
            raise ValueError(
                f"{path} has numbers that are not finite (nan or inf) in {key}: the run that made it diverged, or the "
                "file is damaged; take another checkpoint"
            )


def check_identity(net, stored: Dict[str, Any], path) -> None:
    """Raise ValueError if the weights at `path` belong to another network, also if only an option differs."""
    if not stored:
        return
    own = json.loads(json.dumps(net.identity))  # numbers as keys become texts, as in the file
    other = [key for key in sorted(stored.keys() | own.keys()) if stored.get(key) != own.get(key)]
    if "model" in other:
        raise ValueError(f"{path} holds the weights of {stored['model']}, not of {own['model']}")
    if other:
        differences = ", ".join(f"{key}={stored.get(key)!r} (here {own.get(key)!r})" for key in other)
        raise ValueError(f"{path} belongs to a network with {differences}.\nBuild the network with these options.")


def by_place(net, arrays: Dict[str, mx.nd.NDArray]) -> Dict[str, mx.nd.NDArray]:
    """Arrays by the places of the parameters in the network, also if the file has their names.

    `collect_params().save` and exports name a parameter '<prefix of the instance><rest>', the latter with 'arg:' or
    'aux:' before it. The rest is common to all instances.
    """
    params = net._collect_params_with_prefix()
    if params.keys() & arrays.keys():
        return arrays
    bare = {key.split(":", 1)[-1]: array for key, array in arrays.items()}
    places = {param.name[len(net.prefix) :]: key for key, param in params.items() if param.name.startswith(net.prefix)}
    prefix = _common_prefix(bare, places)
    named = {key[len(prefix) :] if key.startswith(prefix) else key: array for key, array in bare.items()}
    found = {places.get(name, name): array for name, array in named.items()}
    # A classifier that took the place of the first one has a name of its own, such as dense0.
    for key in params.keys() - found.keys():
        others = [name for name in found.keys() - params.keys() if _REPLACED.fullmatch(name)]
        ends = [name for name in others if name.endswith(f"_{key.rpartition('.')[2]}")]
        if key.startswith("output.") and len(ends) == 1:
            found[key] = found.pop(ends[0])
    return found


class Classifier(NamedTuple):
    """What a file tells of the classifier in it."""

    num_classes: int
    has_bias: bool


def classifier_in(stored: Stored) -> Optional[Classifier]:
    """Return the classifier that a file holds, None if it holds none."""
    found = [key for key in stored.arrays if _CLASSIFIER.search(key)]
    # One that was replaced is the last of those that are named by their number.
    found = found or sorted((key for key in stored.arrays if _DENSE.search(key)), key=lambda key: (len(key), key))
    if not found:
        return None
    weight = found[-1]
    return Classifier(stored.arrays[weight].shape[0], f"{weight[: -len('weight')]}bias" in stored.arrays)


_REPLACED = re.compile(r"dense\d+_(weight|bias)")
# The weight of the classifier by its place, or by its name; that of a condensed one is in a layer within it.
_CLASSIFIER = re.compile(r"(^|[:_])output(\.linear\.|\.|_dense0_|_)weight$")
_DENSE = re.compile(r"^(arg:)?([^_]+_)?dense\d+_weight$")


def _common_prefix(keys: Collection[str], names: Collection[str]) -> str:
    """What stands before the most of `names` in `keys`."""
    ends: Dict[str, List[str]] = collections.defaultdict(list)
    for name in names:
        ends[name.rpartition("_")[2]].append(name)
    found = collections.Counter(
        key[: len(key) - len(name)] for key in keys for name in ends[key.rpartition("_")[2]] if key.endswith(name)
    )
    return found.most_common(1)[0][0] if found else ""


def _some(what: str, keys: List[str]) -> str:
    more = f" and {len(keys) - 2} more" if len(keys) > 2 else ""
    return f"{what}: {', '.join(keys[:2])}{more}"
