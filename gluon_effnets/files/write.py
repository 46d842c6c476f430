"""Files that are written whole or not at all: beside their place, flushed, read back, and only then renamed.

A process that is killed leaves folders whose names begin with `SCRATCH`; the next one that writes beside them removes
them. A process that lives holds a lock on its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

if TYPE_CHECKING:
    import mxnet as mx

__all__ = [
    "CannotWrite",
    "append_line",
    "make_folder",
    "move_together",
    "remove_leftovers",
    "replacing",
    "replacing_folder",
    "scratch_beside",
    "sync",
    "telling",
    "write_arrays",
    "write_bytes",
    "write_text",
]

SCRATCH = ".gluon_effnets-writing-"
_SCRATCH_NAME = re.compile(re.escape(SCRATCH) + r"\w{8}")  # as mkdtemp completes it
_ELSEWHERE = "write elsewhere"
_REMEDIES = {
    errno.ENOSPC: f"free space on this disk, or {_ELSEWHERE}",
    errno.EDQUOT: f"your quota is used up: delete files, or {_ELSEWHERE}",
    errno.EFBIG: "no larger file is allowed here: see ulimit -f",
    errno.EROFS: _ELSEWHERE,
    errno.EACCES: f"ask for the right to write there, or {_ELSEWHERE}",
    errno.EPERM: f"ask for the right to write there, or {_ELSEWHERE}",
    errno.ENOENT: "make its folder, or put it back if it was moved",
    errno.ENOTDIR: "a file stands where its folder should be: remove it",
    errno.EEXIST: "something else stands in its place: remove it",
    errno.EISDIR: "a folder stands in its place: remove it, or name another file",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class CannotWrite(OSError):
    """A file could not be written. Its text is one sentence with the path and the remedy."""

    def __str__(self) -> str:
        return str(self.args[0])


def _cannot_write(path: Path, error: OSError) -> CannotWrite:
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, "look after the disk")
    # What is still in the making has the name of its place.
    shown = Path(*(part for part in Path(path).parts if not _SCRATCH_NAME.fullmatch(part)))
    told = CannotWrite(f"cannot write {shown} ({reason}): {remedy}; what was there before is untouched")
    told.errno, told.strerror = error.errno, reason
    return told


@contextlib.contextmanager
def telling(path) -> Iterator[None]:
    """Turn errors of the system within the block into the sentence of `CannotWrite` for a path."""
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise _cannot_write(path, error) from None


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems know this for files alone.
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP) or not os.path.isdir(path):
            raise
    finally:
        os.close(handle)


def make_folder(path) -> None:
    """Make a folder, and those that it lies in, if it is not there. Raises CannotWrite."""
    with telling(path):
        Path(path).mkdir(parents=True, exist_ok=True)


# -- Beside the place ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def scratch_beside(path) -> Iterator[Path]:
    """A folder within the folder of `path`, and so on its disk, that is gone afterwards. Raises CannotWrite."""
    parent = Path(path).parent
    with telling(path):
        remove_leftovers(parent)
        folder, handle = _held_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _held_folder(parent: Path) -> Tuple[Path, int]:
    """A new folder, and the descriptor by which this process holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=str(parent)))
        # Another process may take it for a leftover, as long as it is not held.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            handle, _ = _hold(folder)
            if folder.is_dir():
                return folder, handle
            os.close(handle)


def _hold(folder: Path) -> Tuple[int, bool]:
    """The descriptor of a folder, and whether its file system has locks. Raises BlockingIOError if it is held."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:  # NFS has none for folders
        return handle, False
    return handle, True


def remove_leftovers(parent: Path) -> None:
    """Remove what processes left that are dead; where that cannot be known, nothing."""
    with contextlib.suppress(OSError):
        for name in filter(_SCRATCH_NAME.fullmatch, os.listdir(parent)):
            with contextlib.suppress(OSError):
                handle, is_known = _hold(parent / name)
                if is_known:
                    shutil.rmtree(parent / name, ignore_errors=True)
                os.close(handle)


@contextlib.contextmanager
def replacing(path, check: Optional[Callable[[Path], None]] = None) -> Iterator[Path]:
    """Yield where to write a file that takes the place of `path` at the end of the block, or never.

    Args:
        path: Of the file. Links are followed; devices and pipes get the content.
        check: Reads the file back, and raises OSError if it is not what was written.

    Raises:
        CannotWrite: The system refuses something. What was at `path` is untouched.
    """
    path = Path(path)
    with telling(path):
        if _is_stream(path):
            with tempfile.TemporaryDirectory(prefix="gluon_effnets-") as folder:
                temporary = Path(folder) / path.name
                yield temporary
                with open(temporary, "rb") as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target)
            return
        final = Path(os.path.realpath(path))
        _require_writable(final)
        with scratch_beside(final) as folder:
            temporary = folder / final.name
            yield temporary
            sync(temporary)
            if check is not None:
                check(temporary)
            if final.exists():
                shutil.copymode(final, temporary)
            os.replace(temporary, final)
            sync(final.parent)


def _is_stream(path: Path) -> bool:
    """Whether a path is no place in a folder: what is behind it must be kept, and only gets the content."""
    top = os.path.abspath(path).split(os.sep)[1:3]
    if top[0] == "proc" or (top[0] == "dev" and top[1:] != ["shm"]):
        return True
    return path.exists() and not stat.S_ISREG(path.stat().st_mode) and not path.is_dir()


def _require_writable(path: Path) -> None:
    """Raise OSError where the name is a folder's, or the file is protected, which a rename would not ask for."""
    for code, refused in (
        (errno.EISDIR, path.is_dir()),
        (errno.EACCES, path.exists() and not os.access(path, os.W_OK)),
    ):
        if refused:
            raise OSError(code, os.strerror(code))


def _lost() -> OSError:
    return OSError(errno.EIO, "what was written cannot be read back")


def write_bytes(path, content: bytes) -> None:
    """Write a file; raises as `replacing` does."""

    def check(written: Path) -> None:
        if written.read_bytes() != content:
            raise _lost()

    with replacing(path, check) as temporary, open(temporary, "wb") as file:
        file.write(content)


def write_text(path, content: str) -> None:
    """Write a file in UTF-8; raises as `replacing` does."""
    write_bytes(path, content.encode())


def write_arrays(path, arrays: Dict[str, mx.nd.NDArray], with_digest: bool = False) -> None:
    """Write MXNet's arrays by their names, perhaps with a digest of the file in it; raises as `replacing` does.

    MXNet itself does not say what a full disk took from a file.
    """
    from .._mxnet import mx
    from .params_header import blank_digest, seal

    if with_digest:
        arrays = {**arrays, **blank_digest()}

    with replacing(path) as temporary:
        lost = _lost()
        try:
            mx.nd.save(str(temporary), arrays)
            sync(temporary)
            found = mx.nd.load(str(temporary)) or {}
            if found.keys() == arrays.keys() and all(_are_equal(found[key], arrays[key]) for key in arrays):
                if with_digest:
                    seal(temporary)
                return
        except mx.base.MXNetError as error:
            lost.strerror = str(error).strip().splitlines()[-1]
        temporary.unlink(missing_ok=True)
        _provoke(temporary, sum(array.asnumpy().nbytes for array in arrays.values()))
        raise lost


def _are_equal(one: mx.nd.NDArray, other: mx.nd.NDArray) -> bool:
    # As bytes, for NaN and for types that NumPy cannot compare.
    numbers = [np.ascontiguousarray(array.asnumpy()) for array in (one, other)]
    first, second = (array.reshape(-1).view(np.uint8) for array in numbers)
    return numbers[0].shape == numbers[1].shape and one.dtype == other.dtype and np.array_equal(first, second)


def _provoke(path: Path, size: int) -> None:
    """Write so many bytes: where MXNet is silent, the system then says why it has no place for them."""
    with open(path, "wb") as file:
        for _ in range(0, size, 1 << 20):
            file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())


def append_line(path, line: str) -> None:
    """Append a line to a text file, or nothing; the end of a line that a killed process was writing stays apart.

    Raises:
        CannotWrite: The system refuses it.
    """
    with telling(path), open(path, "a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
        left = ("\n" if end and file.read(1) != b"\n" else "").encode() + f"{line}\n".encode()
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(end)
            raise


# -- Several files ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path`, a folder too, at the end of the block, or never.

    Raises:
        CannotWrite: The system refuses something. What was at `path` is untouched.
    """
    with telling(path), scratch_beside(path) as scratch:
        temporary, before = scratch / path.name, scratch / "before"
        temporary.mkdir()
        yield temporary
        for file in (*temporary.iterdir(), temporary):
            sync(file)
        with _restoring([(path, before)]):
            if path.exists():
                os.replace(path, before)
            os.replace(temporary, path)
        sync(path.parent)


def move_together(paths: Sequence[Path], folder: Path, remove_first: bool = False) -> List[Path]:
    """Move finished files from a scratch folder into one beside it, in their order, or none; return their places.

    Processes that do so in the same folder take turns, so that what they move does not mix.

    Args:
        paths: Of the files in the scratch folder.
        folder: Where they go.
        remove_first: Whether what stands in the place of the last one goes before the first one comes.

    Raises:
        CannotWrite: The system refuses something. The folder is as it was.
    """
    places = [folder / path.name for path in paths]
    kept = [(place, path.with_name(f"{path.name}.before")) for path, place in zip(paths, places)]
    with telling(places[-1]), _turn(folder):
        for path, (place, before) in zip(paths, kept):
            _require_writable(place)
            sync(path)
            if place.exists():
                _keep(place, before)
        with _restoring(kept):
            if remove_first:
                places[-1].unlink()
            for path, place in zip(paths, places):
                os.replace(path, place)
        sync(folder)
    return places


def _keep(path: Path, before: Path) -> None:
    try:
        os.link(path, before)
    except OSError:  # without hard links
        shutil.copy2(path, before)


@contextlib.contextmanager
def _restoring(kept: Sequence[Tuple[Path, Path]]) -> Iterator[None]:
    """After an error within the block, put back what stands beside each place; where nothing does, nothing was."""
    try:
        yield
    except BaseException:
        for place, before in kept:
            if before.exists():
                os.replace(before, place)
            elif not place.is_dir():
                place.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait until no other process has its turn in a folder; where folders have no locks, not at all."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
