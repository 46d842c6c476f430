"""JSON, YAML and what messages show of them: bounded, plain, in one line."""

import itertools
import os
import socket
import time

import pytest

from gluon_effnets.files.mistakes import sentence
from gluon_effnets.files.regular import UnreadableFileError, beside, read_bytes, read_text
from gluon_effnets.files.side_json import parse_json, read_json
from gluon_effnets.files.text import shortened, shown
from gluon_effnets.files.yaml_text import parse_yaml, read_yaml

pytestmark = pytest.mark.fast


def nested(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


def test_a_shortened_value_is_short():
    for value in ("x" * 10**6, ["x" * 999] * 999, {"a" * 999: 1}, 10**30000, nested(500), object(), b"\0" * 10**5):
        assert len(shortened(value)) <= 400


def test_short_values_stay_as_python_writes_them():
    for value in ("idle", "it's", 3, 2.5, None, [1, "a"], {"a": 1}):
        assert shortened(value) == repr(value)
    assert shortened("\x1b[2J") == "'\\x1b[2J'" and shown("a\x1b[2Jb\nc") == "a?[2Jb\nc"


@pytest.mark.parametrize(
    ("text", "said"),
    ids=itertools.count(),
    argvalues=[
        ("", "is no JSON, or is cut short"),
        ("[1, 2", "is no JSON, or is cut short"),
        ("[" * 100_000, "deeper than"),
        ("[" * 40 + "]" * 40, "deeper than"),
        ("9" * 100_000, "a number of 100,000 digits"),
        ("[1e999]", "not finite"),
        ("[NaN]", "not finite"),
        ('"\\ud800"', "half a character"),
        (b"\xff", "is no JSON, or is cut short"),
    ],
)
def test_json_that_no_program_of_ours_writes(text, said):
    with pytest.raises(ValueError, match=f"^net.json .*{said}"):
        parse_json(text, "net.json")


def test_json_and_yaml_name_their_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("")
    for read in (read_json, read_yaml):
        with pytest.raises(FileNotFoundError, match="no recipe at .*none"):
            read(tmp_path / "none", "recipe")
    with pytest.raises(ValueError, match=str(path)):
        read_json(path)
    path.write_text("a: *b")
    with pytest.raises(ValueError, match=str(path)):
        read_yaml(path)


@pytest.mark.parametrize(
    ("text", "said"),
    ids=itertools.count(),
    argvalues=[
        ("a: &a [x, x]\nb: [*a, *a]", "aliases"),
        ("&a [*a]", "aliases"),
        ("[" * 60_000, "deeper than"),
        ("- " * 60, "deeper than"),
        ("!!python/object/apply:os.system [ls]", "not allowed"),
        ("!!bool x", "not valid YAML"),
        ("9" * 60_000, "too many digits"),
        ("1" + ":1" * 60_000, "too many digits"),
        (".nan", "no finite number"),
        (".inf", "no finite number"),
        ("? [1]\n: 2", "unhashable"),
        ("a" * 200_000, "characters"),
        ("\0", "not valid YAML"),
    ],
)
def test_yaml_that_no_recipe_needs(text, said):
    began = time.process_time()
    with pytest.raises(ValueError, match=f"^--set x.*{said}") as caught:
        parse_yaml(text, "--set x")
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)
    assert time.process_time() - began < 10  # as it was, the bomb of aliases never ended


def test_a_bomb_of_aliases_ends_at_once():
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    with pytest.raises(ValueError, match="aliases"):
        parse_yaml("\n".join(lines), "recipe.yaml")


def test_plain_yaml_is_read_as_before():
    text = "a: 1\nb: [x, 2.5, true, ~]\nc: {d: 1e-3, e: 0x10}\nf: 'yes'\ng: yes\n"
    expected = {"a": 1, "b": ["x", 2.5, True, None], "c": {"d": "1e-3", "e": 16}, "f": "yes", "g": True}
    assert parse_yaml(text, "") == expected


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "latin").write_bytes(b"a\n\xe9")
    for path, said in [
        (tmp_path / "pipe", "is no regular file"),
        (tmp_path / "socket", "is no regular file"),
        ("/dev/zero", "is no regular file"),
        (tmp_path, "is a folder"),
        (tmp_path / "circle", "is a link in a circle"),
        (f"{tmp_path}/a\0b", "is no name"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ]:
        with pytest.raises(UnreadableFileError, match=said):
            read_bytes(path)
    listening.close()
    with pytest.raises(FileNotFoundError, match="no weights at"):
        read_bytes(tmp_path / "none", "weights")
    with pytest.raises(ValueError, match="line 2 has the byte 0xe9"):
        read_text(tmp_path / "latin")
    with pytest.raises(ValueError, match="at most 2 are read"):
        read_bytes(tmp_path / "latin", most=2)
    with pytest.raises(ValueError, match="has more than"):
        read_bytes("/proc/self/status", most=10)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/b", "", ".", "..", "a\0b", "a\\b", "a\nb"])
def test_a_file_names_files_beside_itself_alone(name, tmp_path):
    with pytest.raises(ValueError, match="net.json names"):
        beside(tmp_path, name, "net.json")


def test_a_link_may_not_lead_out_of_the_folder(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "outside").write_text("x")
    (inner / "own").write_text("x")
    (inner / "out").symlink_to("../outside")
    (inner / "in").symlink_to("own")
    assert beside(inner, "in", "net.json") == inner / "in" and beside(inner, "none", "net.json") == inner / "none"
    with pytest.raises(ValueError, match="net.json names 'out', a link that leads out of its folder"):
        beside(inner, "out", "net.json")


@pytest.mark.parametrize("error", [OSError(36, "File name too long", "x" * 9000), ValueError("y" * 9000 + "\nremedy")])
def test_a_message_does_not_repeat_a_path_without_end(error):
    said = sentence(error)
    assert len(said) < 1000 and ("too long" in said or said.endswith("remedy"))
