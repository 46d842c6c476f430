"""Tables of papers: every number that was read is in one, and comes from its source; costs, runs and times beside."""

from __future__ import annotations

import json

import pytest

from gluon_effnets import _resources, list_models
from gluon_effnets.__main__ import main
from gluon_effnets.paper_tables import PAPERS, _measured, _published, computed_table, paper_tables, rounds_to

PUBLISHED = _resources.results("published")["rows"]
TABLES = [table for tables in PAPERS.values() for table in tables]
# Numbers of these networks that are no cells of a table: those of training logs, and top-5 errors beside top-1.
ELSEWHERE = ("training log", "top-5", "of subnet")


def row_of(paper, number, label, rules=None):
    (table,) = paper_tables(paper, number)
    rows = [row for row in table.rows if row.label == label]
    assert len(rows) == 1
    return computed_table(table._replace(rows=tuple(rows))).records()[0]


@pytest.mark.fast
def test_networks_of_all_tables_are_registered():
    known = set(list_models())
    assert all(row.name in known for table in TABLES for row in table.rows if row.name)
    for tables in PAPERS.values():
        assert [table.number for table in tables] == list(range(1, len(tables) + 1))


@pytest.mark.fast
@pytest.mark.parametrize("paper", ["mobilenext", "condensenetv2", "dsnet", "idleblock"])
def test_every_number_of_a_table_s_sources_is_in_it(paper):
    for table in PAPERS[paper]:
        cells = {(row.name or row.label, what + row.at) for row in table.rows for what in (*table.quoted, "MAdds")}
        names = {name for name, _ in cells}
        others = [t for t in PAPERS[paper] if t is not table and set(t.sources) & set(table.sources)]
        beside = {(r.name or r.label, what + r.at) for t in others for r in t.rows for what in (*t.quoted, "MAdds")}
        for entry in PUBLISHED:
            told = entry["source"] + entry["what"]
            if entry["source"] in table.sources and entry["model"] in names and not any(w in told for w in ELSEWHERE):
                assert (entry["model"], entry["what"]) in cells | beside, entry


@pytest.mark.fast
def test_published_numbers_keep_their_source():
    widths, ablation = paper_tables("mobilenext")[:2]
    row = next(row for row in ablation.rows if row.label == "(d) SandGlass")
    assert _published(ablation, row, "parameters") == "3.5 M"
    assert _published(widths, row, "parameters") == "3.5 M, 3.4 M"  # README and figure
    half = next(row for row in paper_tables("mobilenext", 3)[0].rows if row.divisor == 2)
    assert _published(paper_tables("mobilenext", 3)[0], half, "top-1") == "74.09 %"
    # No source has been read that tells these: empty, not guessed.
    for paper, number in (("mobilenext", 6), ("dsnet", 3), ("idleblock", 2)):
        (table,) = paper_tables(paper, number)
        assert not any(_published(table, row, "MAdds") or _published(table, row, "top-1") for row in table.rows)


def test_costs_stand_beside_and_tell_the_authors_rule():
    row = row_of("mobilenext", 2, "(b)")
    assert (row["params"], row["conv_fc"], row["published MAdds"], row["top-1"]) == (
        *("3.399 M", "246.13 M", "250 M", "70.11 %"),
    )
    row = row_of("dsnet", 1, "sub-network 13")
    assert (row["conv_fc"], row["conv_fc_pool"], row["counted by"]) == ("564.09 M", "565.45 M", "conv_fc_pool")
    assert row["stages"] == "32/48/96/640/1152" and row["params"] == "7.351 M"
    row = row_of("condensenetv2", 2, "CondenseNet-86")
    assert (row["params"], row["published params"], row["counted by"]) == ("0.520 M", "0.52 M", "condensenet")
    row = row_of("idleblock", 1, "maximum, M=6, I=9")
    assert row["MAdds against MobileNetV3"] == "-23 %" and row["conv_fc"] == "164.93 M"


@pytest.mark.fast
def test_printed_numbers_have_units():
    assert rounds_to(2322675712, "2.3 G") and not rounds_to(2322675712, "2.4 G")
    assert rounds_to(132890144, "133 M") and not rounds_to(132004224, "133 M") and rounds_to(264, "0.3 K")


@pytest.mark.fast
def test_measured_numbers_are_those_of_the_results(monkeypatch):
    runs = [
        {"model": "m", "data": "digits", "recipe": "a", "top1": top1, "options": options}
        for top1, options in ((90.0, {}), (91.0, {}), (10.0, {"order": "left"}))
    ]
    runs.append({"model": "m", "data": "digits", "recipe": "b", "top1": 50.0})
    common = {"model": "m", "batch": 1, "threads": 1, "int8": False}
    times = [
        {**common, "runtime": "mxnet", "median_ms": 9.0},
        {**common, "runtime": "onnxruntime", "median_ms": 3.0},
        {**common, "runtime": "int8", "median_ms": 1.0, "int8": True},
        {**common, "runtime": "onnxruntime", "median_ms": 0.5, "batch": 32},
    ]
    found = {"trained": {"rows": runs}, "latency": {"rows": times}}
    monkeypatch.setattr(_resources, "results", lambda name: found[name])
    assert _measured("m") == ("90.5 % on digits (2 runs)", "3.0 ms in onnxruntime")
    assert _measured("other") == ("", "")
    found.update(trained={}, latency={})  # an installation without results
    assert _measured("m") == ("", "")


@pytest.mark.parametrize("format", ["json", "csv", "markdown"])
def test_one_table_in_every_format(format, capsys):
    assert main(["table", "mobilenext", "--number", "3", "--format", format]) == 0
    out = capsys.readouterr().out
    assert "74.09 %" in out and "time here" in out and "211 ms" in out
    if format == "json":
        (table,) = json.loads(out)
        assert table["place"] == "README" and [row["network"] for row in table["rows"]] == ["1", "1/2", "1/3", "1/4"]
    if format == "markdown":
        assert out.startswith("arXiv 2007.02269, README: identity tensor multiplier\n\n| network | model |")
