"""The command `list`: order, wildcards and filters; and tables of all commands in every format."""

import argparse
import json

import pytest

from gluon_effnets import list_models, model_info
from gluon_effnets.__main__ import COMMANDS, main
from gluon_effnets.commands.command import Group
from gluon_effnets.tables import natural_order
from gluon_effnets.timing import speedup

pytestmark = pytest.mark.fast
COMMANDS_BY_WORD = [command for one in COMMANDS for command in (one.commands if isinstance(one, Group) else [one])]


def listed(capsys, *words):
    assert main(["list", *words, "--format", "json"]) == 0
    return [row.get("model", row.get("detector")) for row in json.loads(capsys.readouterr().out)]


def test_list_takes_several_wildcards_and_filters(capsys):
    names = listed(capsys, "cifar_condensenet_*", "mobilenext_x*")
    assert names[:7] == [f"cifar_condensenet_{depth}" for depth in (50, 74, 86, 98, 110, 122, 182)]
    assert names[-5:] == [f"mobilenext_x{width}" for width in ("0_35", "0_5", "0_75", "1_0", "1_4")]
    assert listed(capsys, "--pretrained") == sorted(list_models(pretrained=True), key=natural_order)
    of_both = listed(capsys, "mobilenext_*", "idle_*", "--has-recipe")
    assert of_both == [name for name in listed(capsys, "mobilenext_*", "idle_*") if model_info(name).recipes]
    with_recipe = listed(capsys, "--detectors", "--has-recipe")
    assert with_recipe and set(with_recipe) < set(listed(capsys, "--detectors"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["idle_*", "nothing*"], "no model matches 'nothing*'"),
        (["idle_*", "--pretrained"], "no model of 'idle_*' is left by --pretrained"),
        (["--family", "mobilenxt"], "unknown family 'mobilenxt'; there are alexnet, "),
        (["--detectors", "--pretrained"], "--family and --pretrained are for models"),
        (["--detectors", "ssdlite*", "none*"], "no detector matches 'none*'"),
    ],
)
def test_list_says_what_matches_nothing(words, told, capsys):
    assert main(["list", *words]) == 1
    assert told in capsys.readouterr().err


# These print no table: a line or two, a file, or a program's own log. A run leaves result.json.
WITHOUT_TABLE = {"classes", "train", "report", "convert", "export", "card", "tvm", "native", "reuse", "routes"}


def test_every_table_can_be_written_in_every_format():
    """By --format, or, where several tables and more are measured, with all of it by --json FILE."""
    for command in COMMANDS_BY_WORD:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        formats = [action for action in parser._actions if "--format" in action.option_strings]
        if command.name in WITHOUT_TABLE:
            assert not formats or command.name == "export", command.name
        elif "--json" in parser._option_string_actions and not formats:
            assert command.name in ("latency", "profile", "train", "data", "detectors"), command.name
        else:
            assert {"csv", "json"} <= set(formats[0].choices), command.name


def test_a_comparison_is_a_table_in_every_format(monkeypatch, capsys):
    from gluon_effnets.benchmarks import slicing

    rows = [
        slicing.SlicingRow(variant, 2.0, 2.5, speedup([2.0, 2.5], [2.0, 2.5]), 1e-7) for variant in ("full", "ideal")
    ]
    monkeypatch.setattr(slicing, "compare_slicing", lambda *args: rows)
    assert main(["benchmark", "slicing", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in found] == ["full", "ideal"] and found[0]["difference"] == 1e-7
    assert main(["benchmark", "slicing"]) == 0
    table, _, below = capsys.readouterr().out.partition("\n\n")
    assert table.startswith("| variant |") and below.startswith("one image, 20 repetitions in turn; ")


def test_recipes_are_told_in_whole_sentences(capsys):
    assert main(["recipes", "--format", "json"]) == 0
    told = {row["recipe"]: row["what it is"] for row in json.loads(capsys.readouterr().out)}
    assert all(text.endswith((".", ")")) for text in told.values()), told
    assert told["sfr_shufflenet_v2_x1_0.yaml"] == "SFR-ShuffleNetV2 1x (figure 5 of arXiv 2104.04382): our own choice."
