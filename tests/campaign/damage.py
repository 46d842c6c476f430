"""Damage to files, drawn from a numbered random generator: of bytes, of JSON, and of text."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import socket
import struct
from pathlib import Path
from random import Random
from typing import Any, List, Tuple

# What a hostile file would like to have run or read: each leaves a trace that the judge looks for.
HOSTILE_WORDS = (
    "canary:touch",
    "canary",
    "../outside.params",
    "/etc/passwd",
    "/dev/stdin",
    "/proc/self/mem",
    "__import__('canary')",
    "$(touch canary.ran)",
    "!!python/object/apply:os.system ['touch canary.ran']",
    "a\0b",
    "\x1b[2J\x1b]0;gone\x07",
    "\ud800",
    "%s%n%x",
    "{0.__class__}",
    "nan",
    "inf",
    "",
    " ",
    "Ä" * 300,
    "x" * 100_000,
)
ODD_VALUES: Tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    2**31 - 1,
    2**31,
    2**63,
    -(2**63),
    10**400,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    [],
    {},
    [[]],
    [None],
    {"": None},
    [0] * 1000,
    *HOSTILE_WORDS,
)
_EXTREMES = (0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def of_bytes(content: bytes, draw: Random) -> bytes:
    """Damage the bytes of a file in one of the ways of disks, transfers and hostile hands."""
    size = len(content)
    # Headers and indexes stand at the ends of files.
    place = min(draw.choice([draw.randrange(size + 1), draw.randrange(min(size, 300) + 1)]), max(size - 1, 0))
    if draw.random() < 0.15:
        place = max(0, size - 1 - draw.randrange(min(size, 200) + 1))
    length = draw.choice([1, 2, 4, 8, 64, 513, 4096])
    changed = bytearray(content)
    kind = draw.randrange(12)
    if kind <= 1:
        return content[:place]
    if kind <= 3 and size:
        for _ in range(draw.choice([1, 1, 2, 8])):
            changed[place] ^= 1 << draw.randrange(8)
            place = draw.randrange(size)
    elif kind <= 6:
        width = draw.choice(["<B", "<H", "<I", "<Q", ">I", ">H"])
        number = struct.pack(width, draw.choice(_EXTREMES) % 256 ** struct.calcsize(width))
        changed[place : place + len(number)] = number
    elif kind == 7:
        changed[place : place + length] = bytes([draw.choice([0, 255, 32])]) * length
    elif kind == 8:
        changed[place : place + length] = draw.getrandbits(8 * length).to_bytes(length, "little")
    elif kind == 9:
        changed[place:place] = content[place : place + length] or b"\0"
    elif kind == 10:
        del changed[place : place + length]
    else:
        return draw.choice([b"", b"\0", content + content, content + b"\0" * length, content[::-1], b"\xff" * length])
    return bytes(changed)


def _places(tree: Any, path: Tuple = ()) -> List[Tuple]:
    """The paths of all values in a tree of JSON."""
    if len(path) > 50:
        return [path]
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in inside for place in _places(value, (*path, key)))]


def _at(tree: Any, path: Tuple) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def of_tree(tree: Any, draw: Random) -> Any:
    """Change one or two values of a tree of JSON or YAML: their type, size, name, number or place."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice([1, 1, 1, 2])):
        if draw.random() < 0.02:
            return draw.choice(ODD_VALUES)
        paths = _places(tree)[1:]
        if not paths:
            return draw.choice(ODD_VALUES)
        path = draw.choice(paths)
        parent, key, kind = _at(tree, path[:-1]), path[-1], draw.randrange(10)
        if kind <= 4:
            parent[key] = copy.deepcopy(draw.choice(ODD_VALUES))
        elif kind == 5:
            del parent[key]
        elif kind == 6:
            with contextlib.suppress(RecursionError):  # of a value that the first change made so deep
                parent[key] = copy.deepcopy(_at(tree, draw.choice(paths)))
        elif kind == 7 and isinstance(parent, dict):
            parent[str(draw.choice(HOSTILE_WORDS))] = parent.pop(key)
        elif kind == 8:
            value = parent[key]
            numbers = [-value, value + 1, value * 1000, float(value)] if isinstance(value, (int, float)) else [[value]]
            parent[key] = draw.choice(numbers)
        else:
            for _ in range(draw.choice([3, 40, 900, 3000])):
                parent[key] = [parent[key]]
    return tree


def written(tree: Any, draw: Random) -> bytes:
    """A tree as JSON, sometimes as only a hand would write it."""
    try:
        text = json.dumps(tree, indent=draw.choice([None, 1]))
    except (RecursionError, ValueError):
        text = "[" * 100_000
    if draw.random() < 0.05:
        text = draw.choice(
            ["[" * 100_000, '{"a":' * 50_000, text + text, f"\ufeff{text}", text.replace(":", ""), "1" * 10**6]
        )
    return text.encode("utf-8", "surrogatepass")


def of_json(content: bytes, draw: Random) -> bytes:
    """Damage a JSON file: mostly its values, sometimes its text."""
    if draw.random() < 0.2:
        return of_bytes(content, draw)
    return written(of_tree(json.loads(content), draw), draw)


def of_lines(content: bytes, draw: Random) -> bytes:
    """Damage a text of lines."""
    lines = content.decode().split("\n")
    kind = draw.randrange(6)
    if kind == 0:
        return of_bytes(content, draw)
    place = draw.randrange(len(lines))
    if kind == 1:
        del lines[place]
    elif kind == 2:
        lines.insert(place, draw.choice(lines))
    else:
        lines[place] = draw.choice([*HOSTILE_WORDS, lines[place] * 1000, f"\t{lines[place]}", f"{lines[place]}: ["])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def special(path: Path, draw: Random) -> str:
    """Put something that is no file in the place of a file, and return its kind."""
    if path.is_dir():
        path.rename(path.with_name("moved"))
    elif path.exists() or path.is_symlink():
        path.unlink()
    kind = draw.choice(
        [
            "pipe",
            "folder",
            "device",
            "endless",
            "full",
            "socket",
            "circle",
            "dangling",
            "nothing",
            "empty",
            "unreadable",
        ]
    )
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("device", "endless", "full"):
        path.symlink_to({"device": "/dev/null", "endless": "/dev/zero", "full": "/dev/full"}[kind])
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
        os.chdir(here)
    elif kind in ("circle", "dangling"):
        path.symlink_to({"circle": path.name, "dangling": "nowhere"}[kind])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "unreadable":
        path.symlink_to("/proc/self/mem")
    return kind
