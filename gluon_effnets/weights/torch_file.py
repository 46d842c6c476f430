"""Files of `torch.save`, read without PyTorch: both of its formats, and nothing in them can run.

A file holds a pickle that builds the dictionary, and the numbers of the tensors beside it: as members of an archive,
or, before PyTorch 1.6, one after the other behind the pickle. A pickle calls what it names; here it can name only what
stands in `_NAMES`, and older PyTorch's own way of reading weights alone could be made to run code (CVE-2025-32434).
"""

from __future__ import annotations

import argparse
import collections
import functools
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..files.regular import MOST_WEIGHTS, opened

__all__ = ["ForeignObjectError", "read_torch_file"]

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_BFLOAT16 = "bfloat16"
_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class ForeignObjectError(ValueError):
    """The pickle names something that is neither a tensor nor a plain value; the text is that name."""


class _StorageType(NamedTuple):
    """The numbers of a tensor, as the pickle names their type."""

    name: str

    def decode(self, data: bytes) -> np.ndarray:
        if _TYPES[self.name] == _BFLOAT16:
            # A bfloat16 is the upper half of a float32.
            return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(data, _TYPES[self.name])

    @property
    def itemsize(self) -> int:
        return 2 if _TYPES[self.name] == _BFLOAT16 else np.dtype(_TYPES[self.name]).itemsize


class _Label(NamedTuple):
    """A device or a number type, which tell nothing about weights."""

    text: str


def read_torch_file(path: Path) -> Any:
    """Return what `torch.save` wrote, with NumPy arrays for tensors; bfloat16 becomes float32.

    Args:
        path: A file of either format.

    Raises:
        ForeignObjectError: It holds more than tensors and plain values.
        ValueError: It is damaged or no such file.
    """
    with opened(path, "checkpoint", MOST_WEIGHTS) as file:
        try:
            return _read_archive(file) if zipfile.is_zipfile(file) else _read_sequence(file)
        except ForeignObjectError:
            raise
        except Exception as error:  # damaged pickles and archives make Python's readers raise nearly anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(reason) from None


def _read_archive(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        root = next((name[: -len("data.pkl")] for name in sizes if name.endswith("/data.pkl")), None)
        if root is None:
            raise ValueError("the archive has no data.pkl")
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("its parts are compressed, as PyTorch never writes them")
        if f"{root}byteorder" in sizes and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")

        def storage(kind: _StorageType, key: str, count: int) -> np.ndarray:
            data = archive.read(f"{root}data/{key}")
            if len(data) != count * kind.itemsize:
                raise ValueError(f"storage {key} has {len(data)} bytes instead of {count} numbers")
            return kind.decode(data)

        content = io.BytesIO(archive.read(f"{root}data.pkl"))
        return _Unpickler(content, functools.lru_cache(maxsize=None)(storage), file.seek(0, io.SEEK_END)).load()


def _read_sequence(file: BinaryIO) -> Any:
    """The format before PyTorch 1.6: magic number, protocol, system, content, names of storages, their numbers."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)

    def plain() -> Any:
        return _Unpickler(file).load()

    if plain() != _MAGIC or plain() != _PROTOCOL:
        raise ValueError("it does not begin as files of torch.save do")
    plain()
    start, announced = file.tell(), {}

    def announce(kind: _StorageType, key: str, count: int) -> None:
        announced[key] = kind, count

    _Unpickler(file, announce).load()
    storages: Dict[str, np.ndarray] = {}
    for key in plain():
        kind, count = announced[key]
        if int.from_bytes(file.read(8), "little") != count or count * kind.itemsize > size - file.tell():
            raise ValueError(f"storage {key} is cut short, or not of {count} numbers")
        storages[key] = kind.decode(file.read(count * kind.itemsize))
    file.seek(start)
    return _Unpickler(file, lambda kind, key, count: storages[key], size).load()


def _tensor(storage: np.ndarray, offset: int, shape: Sequence[int], strides: Sequence[int], *rest: Any) -> np.ndarray:
    """A tensor's view of its storage."""
    sizes = [offset, *shape, *strides]
    if len(shape) != len(strides) or len(shape) > 32 or any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError("a tensor's shape or strides are not those of an array")
    count = int(np.prod([1, *shape], dtype=object))
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if count > len(storage) or (count and last >= len(storage)):
        raise ValueError("a tensor reaches beyond its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _parameter(tensor: Any, *rest: Any) -> Any:
    return tensor


def _nothing(*arguments: Any) -> None:
    """What a tensor is while its numbers are only announced."""


def _ordered_dict(pairs: Sequence[Sequence[Any]] = ()) -> Dict[Any, Any]:
    content: Dict[Any, Any] = collections.OrderedDict()
    for key, value in pairs:
        content[_checked_key(key)] = value
    return content


def _checked_key(key: Any) -> Any:
    # Whatever else can be a key may be nested deeper than the hash of it can go.
    if not isinstance(key, (str, int, float, bool, type(None))):
        raise ValueError(f"a {type(key).__name__} is used as a key")
    return key


def _encoded(text: str, encoding: str) -> bytes:
    """How old pickles write bytes."""
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {str(encoding)[:20]!r}")
    return text.encode("latin1")


_NAMES: Dict[Tuple[str, str], Any] = {
    ("argparse", "Namespace"): argparse.Namespace,  # the arguments of training scripts
    ("collections", "OrderedDict"): _ordered_dict,
    ("_codecs", "encode"): _encoded,
    ("torch", "Size"): tuple,
    ("torch", "device"): _Label,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): _StorageType(name) for name in _TYPES},
    **{("torch", name): _Label(name) for name in ("float32", "float64", "float16", "bfloat16", "int64", "uint8")},
}


# Written in Python: the one in C makes its table as large as a file says.
_PlainUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


class _Unpickler(_PlainUnpickler):
    """Builds plain values and arrays; `storage(type, key, number of values)` gives the numbers of a tensor."""

    dispatch = dict(_PlainUnpickler.dispatch)

    def __init__(
        self, file: BinaryIO, storage: Optional[Callable[[_StorageType, str, int], Any]] = None, size: int = 0
    ):
        """`size`: most values in all tensors, the bytes of the file; 0: the storages are only announced."""
        super().__init__(file)
        self._storage, self._size = storage, size

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise ForeignObjectError(f"{module}.{name}")
        found = _NAMES[module, name]
        if found is not _tensor:
            return found
        return self._counted if self._size else _nothing

    def _counted(self, *arguments: Any) -> np.ndarray:
        tensor = _tensor(*arguments)
        self._size -= tensor.size
        if self._size < 1:
            raise ValueError("its tensors have more values than the file has bytes")
        return tensor

    def persistent_load(self, reference: Any) -> Any:
        known = isinstance(reference, tuple) and len(reference) >= 5 and isinstance(reference[0], str)
        if self._storage is None or not known or reference[0] != "storage":
            raise ValueError("a reference is not to the numbers of a tensor")
        kind, key, count = reference[1], reference[2], reference[4]
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise ValueError("a reference to the numbers of a tensor is not of its form")
        if len(reference) > 5 and reference[5] is not None:
            raise ValueError("a storage is part of another one; save the tensors alone with a newer PyTorch")
        return self._storage(kind, key, count)

    def load_build(self) -> None:
        # The attributes of what stands in `_NAMES` are none of a file's business.
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, argparse.Namespace) and isinstance(state, dict):
            vars(target).update({str(_checked_key(key)): value for key, value in state.items()})
        elif not isinstance(target, collections.OrderedDict):
            raise ValueError(f"it sets attributes of a {type(target).__name__}")

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._target()[_checked_key(key)] = value

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        items: List[Any] = self.pop_mark()
        self._target().update({_checked_key(key): value for key, value in zip(items[::2], items[1::2])})

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        items: List[Any] = self.pop_mark()
        self.append({_checked_key(key): value for key, value in zip(items[::2], items[1::2])})

    dispatch[pickle.DICT[0]] = load_dict

    def _target(self) -> Dict[Any, Any]:
        if not isinstance(self.stack[-1], dict):
            raise ValueError("it sets items of what is no dictionary")
        return self.stack[-1]

    def refuse(self) -> None:
        raise ValueError("it holds sets or objects, which no weights are")

    for code in (pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS, pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX):
        dispatch[code[0]] = refuse
    for code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[code[0]] = refuse
