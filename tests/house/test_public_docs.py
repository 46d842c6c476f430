"""The public API is documented in one style: a summary in one line, and a line for every argument."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import gluon_effnets
from gluon_effnets import (
    claims,
    complexity,
    deploy,
    detection,
    evaluate,
    experiments,
    models,
    nn,
    paper_tables,
    runtime,
    search,
    tables,
    timing,
    weights,
)
from gluon_effnets.train import build, config, data, hooks, loop, schedules, tasks

pytestmark = pytest.mark.fast

ROOMS = (
    *(
        gluon_effnets,
        nn,
        models,
        detection,
        weights,
        deploy,
        evaluate,
        runtime,
        complexity,
        claims,
        paper_tables,
        tables,
    ),
    *(timing, search, experiments, build, config, data, hooks, loop, schedules, tasks),
)
PUBLIC = {
    f"{room.__name__}.{name}": getattr(room, name)
    for room in ROOMS
    for name in room.__all__
    if inspect.isclass(getattr(room, name)) or inspect.isfunction(getattr(room, name))
}
# What Gluon gives every block, and `hybrid_forward` every helper.
USUAL = {"self", "prefix", "params", "kwargs"}


def arguments(public):
    """Names that a caller may write. A NamedTuple's and a dataclass's are its attributes."""
    if inspect.isfunction(public):
        return [name for name in inspect.signature(public).parameters if name not in USUAL]
    own = vars(public).get("__init__")
    if own is None:
        return list(getattr(public, "_fields", ()))
    return [name for name in inspect.signature(own).parameters if name not in USUAL]


@pytest.mark.parametrize("name", PUBLIC)
def test_doc_strings_have_a_summary_and_every_argument(name):
    text = inspect.getdoc(PUBLIC[name]) or ""
    summary, _, rest = text.partition("\n")
    assert summary.endswith((".", ":")) and not rest.startswith("\n\n\n") and rest[:1] in ("", "\n"), "one line first"
    assert "----" not in text.replace("-----  ", ""), "Args:, not underlined Parameters"
    documented = {word for line in re.findall(r"^ {4}([\w, ]+):", text, re.MULTILINE) for word in line.split(", ")}
    assert [word for word in arguments(PUBLIC[name]) if word not in documented] == []


def test_all_rooms_of_the_reference_are_read_here():
    pages = (Path(__file__).parents[2] / "docs" / "reference").glob("*.md")
    shown = {name for page in pages for name in re.findall(r"^::: (gluon_effnets[\w.]*)$", page.read_text(), re.M)}
    rooms = {room.__name__ for room in ROOMS}
    assert len(shown) > 12 and shown - rooms == {"gluon_effnets.deploy.export.export"}  # its module has its name
    assert rooms - shown <= {"gluon_effnets"}
