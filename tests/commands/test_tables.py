"""One table in four formats: what is rounded where, empty cells, and signs that a format gives a meaning."""

from __future__ import annotations

import csv
import io
import json

import pytest

from gluon_effnets.tables import FORMATS, Table

pytestmark = pytest.mark.fast

TABLE = Table(
    ["network", ("time, ms", ".1f"), ("share", ".0%"), "recipes"],
    [("a|b", 12.349, 0.256, ("x.yaml", "y.yaml")), ('say "c", d', None, "fails", ())],
)


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "| network | time, ms | share | recipes |",
        "| --- | --- | --- | --- |",
        r"| a\|b | 12.3 | 26% | x.yaml y.yaml |",
        '| say "c", d |  | fails |  |',
    ]


def test_text_is_aligned_and_without_spaces_at_the_ends():
    assert TABLE.text().splitlines() == [
        "network     time, ms  share  recipes",
        "a|b         12.3      26%    x.yaml y.yaml",
        'say "c", d            fails',
    ]
    assert TABLE.text(header=False).splitlines() == [
        "a|b         12.3  26%    x.yaml y.yaml",
        'say "c", d        fails',
    ]


def test_csv_and_json_have_the_numbers_themselves():
    first, second = csv.DictReader(io.StringIO(TABLE.csv()))
    assert first == {"network": "a|b", "time, ms": "12.349", "share": "0.256", "recipes": "x.yaml y.yaml"}
    assert second == {"network": 'say "c", d', "time, ms": "", "share": "fails", "recipes": ""}
    assert json.loads(TABLE.json()) == [
        {"network": "a|b", "time, ms": 12.349, "share": 0.256, "recipes": ["x.yaml", "y.yaml"]},
        {"network": 'say "c", d', "time, ms": None, "share": "fails", "recipes": []},
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_without_rows(format):
    table = Table(["a", ("b", ".2f")], [])
    assert (
        table.written(format)
        == {
            "text": "a  b",
            "markdown": "| a | b |\n| --- | --- |",
            "csv": "a,b",
            "json": "[]",
        }[format]
    )
    assert table.text(header=False) == ""


def test_line_breaks_do_not_end_a_row():
    assert Table(["a"], [("one\ntwo",)]).markdown().splitlines()[2] == "| one two |"
    assert list(csv.reader(io.StringIO(Table(["a"], [("one\ntwo",)]).csv())))[1] == ["one\ntwo"]


def test_mistakes():
    with pytest.raises(ValueError, match="a row has 1 values for 2 columns"):
        Table(["a", "b"], [(1,)])
    with pytest.raises(ValueError, match="choose from text, markdown, csv, json"):
        Table(["a"], []).written("html")
    with pytest.raises(ValueError, match="two columns have the same title: ms, ms"):
        Table(["ms", "ms"], [(1, 2)]).json()
