"""The public API of networks is documented in one style: a summary in one line, and a line for every argument."""

from __future__ import annotations

import inspect
import re

import pytest

from gluon_effnets import models, nn, runtime, weights

pytestmark = pytest.mark.fast

PUBLIC = {
    f"{room.__name__}.{name}": getattr(room, name)
    for room in (nn, models, weights, runtime)
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
    if documented or len(arguments(PUBLIC[name])) > 2:
        assert [word for word in arguments(PUBLIC[name]) if word not in documented] == []
