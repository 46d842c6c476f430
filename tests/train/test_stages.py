"""Recipes of several stages: what a stage is, resuming into the right one, and mistakes that show at once."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import yaml
from recipes import STAGED, STAGES
from runs import arrays, kill_after

from gluon_effnets.commands.train import main
from gluon_effnets.deploy import ExportError
from gluon_effnets.files.params_header import load_arrays
from gluon_effnets.train import loop, report, slimmable_report
from gluon_effnets.train.checkpoint import list_checkpoints
from gluon_effnets.train.config import load_recipe


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "staged.yaml"
    path.write_text(STAGED)
    return path


def command(recipe, out, *overrides):
    changes = [part for override in overrides for part in ("--set", override)]
    return ["--config", str(recipe), "--out", str(out), *changes]


FIGURES = report.slimmable_figures


@pytest.fixture(autouse=True)
def no_exhibits(monkeypatch):
    """To draw curves, and to export and time routes, takes longer than to train; `whole`, made before, has them."""
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    monkeypatch.setattr(report, "slimmable_figures", lambda *_: slimmable_report.SlimmableFigures({}, []))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was never interrupted."""
    folder = tmp_path_factory.mktemp("staged")
    (folder / "staged.yaml").write_text(STAGED)
    assert main(command(folder / "staged.yaml", folder / "whole")) == 0
    return folder / "whole"


def assert_equal(one, other):
    first, second = arrays(one), arrays(other)
    assert first.keys() == second.keys()
    assert all(np.array_equal(value, second[key]) for key, value in first.items())
    for name in STAGES:
        logs = [(out / name / "log.jsonl").read_text().splitlines() for out in (one, other)]
        lines = [[{**json.loads(line), "images_per_s": 0} for line in log] for log in logs]
        assert lines[0] == lines[1]


def test_each_stage_has_a_folder_of_its_own(whole):
    assert {path.name for path in whole.iterdir()} == {*STAGES, "recipe.yaml", "report.html", "result.json"}
    for name, updates in STAGES.items():
        found = {path.name for path in (whole / name).iterdir()}
        assert {"checkpoints", "curves.png", "log.jsonl", "recipe.yaml", "run.json", "result.json"} <= found
        lines = [json.loads(line) for line in (whole / name / "log.jsonl").read_text().splitlines()]
        assert {line["update"] for line in lines if line["kind"] == "train"} <= set(range(1, updates + 1))
    results = json.loads((whole / "result.json").read_text())["stages"]
    assert {name: result["updates"] for name, result in results.items()} == STAGES
    assert {"top1_0", "top1_5", "top1_largest", "ema_top1"} <= results["supernet"].keys()
    assert {"top1", "mean_madds", "gate_accuracy", "route_0", "easy"} <= results["gate"].keys()
    assert len({result["params"] for result in results.values()}) == 1, "also of what a stage does not train"
    assert load_recipe(whole / "recipe.yaml").as_dict() == yaml.safe_load((whole / "recipe.yaml").read_text())


def test_a_stage_is_the_same_run_with_its_own_sections(recipe, whole):
    supernet, recalibrate, gate = load_recipe(recipe).split().values()
    assert (supernet.task, recalibrate.task, gate.task) == ("slimmable", "recalibrate", "gate")
    assert (supernet.optimizer.name, gate.optimizer.name, gate.optimizer.options) == ("nag", "sgd", {})
    assert (supernet.data.batch_size, recalibrate.data.batch_size, gate.data.batch_size) == (8, 16, 8)
    assert recalibrate.data.image_size == 16
    assert (supernet.hooks.keys(), gate.hooks, recalibrate.checkpoint_every) == ({"ema"}, {}, "1it")
    assert all(stage.model_options == {"dropout": 0.2} and not stage.stages for stage in (supernet, gate))
    assert load_recipe(whole / "gate" / "recipe.yaml") == gate, "a stage can be repeated from its own recipe"


def test_weights_go_from_stage_to_stage(whole):
    saved = {name: load_arrays(whole / name / "ds_mobilenet_tiny.params") for name in STAGES}

    def changed(one, other):
        return {key for key, value in saved[one].items() if (value != saved[other][key]).asnumpy().any()}

    assert all("running_" in key for key in changed("supernet", "recalibrate"))
    assert changed("recalibrate", "gate") == {"gates.0.gate.weight"}


@pytest.mark.parametrize(
    ("stage", "update"),
    [("supernet", 3), ("supernet", 4), ("recalibrate", 1), ("recalibrate", 2), ("gate", 1), ("gate", 3)],
)
def test_resuming_goes_on_in_the_right_stage(recipe, whole, tmp_path, monkeypatch, capsys, stage, update):
    train = loop.train

    def until_killed(state, task, hooks):
        if state.stage.name == stage:
            kill_after(hooks, update)
        train(state, task, hooks)

    out = tmp_path / "parts"
    before = list(STAGES)[: list(STAGES).index(stage)]
    for name in before:
        shutil.copytree(whole / name, out / name)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", until_killed)
        patch.setattr("gluon_effnets.train.run.CRASHED", 7)
        assert main(command(recipe, out)) == 7
    capsys.readouterr()
    assert main(command(recipe, out)) == 0
    told = capsys.readouterr().out
    for name in STAGES:
        assert (f"{name}: finished" in told) == (name in before)
    assert_equal(whole, out)


def test_a_kill_between_two_stages(recipe, whole, tmp_path):
    out = tmp_path / "parts"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "recalibrate")
    shutil.rmtree(out / "gate")
    (out / "supernet" / "result.json").unlink()  # the report was not complete
    assert main(command(recipe, out)) == 0
    assert_equal(whole, out)


@pytest.mark.parametrize(
    "content",
    [b"", b'{"model": "ds_mobilenet_tiny", "upd', b"\x00\xff", b"{}", b"[1]", b'{"model": "idle_tiny", "updates": 4}'],
    ids=["empty", "cut", "binary", "nothing", "list", "of another model"],
)
def test_a_stage_with_a_damaged_or_foreign_result_is_not_finished(recipe, whole, tmp_path, capsys, content):
    out = tmp_path / "again"
    shutil.copytree(whole, out)
    (out / "gate" / "result.json").write_bytes(content)
    assert main(command(recipe, out)) == 0
    told = capsys.readouterr().out
    assert "recalibrate: finished" in told and "gate: finished" not in told
    assert "resuming from update 4 of 4" in told, "its last checkpoint is whole"
    assert_equal(whole, out)
    results = [json.loads((folder / "result.json").read_text())["stages"]["gate"] for folder in (whole, out)]
    assert results[0]["top1"] == results[1]["top1"]


def test_only_the_last_stage_exports_and_a_failure_is_one_sentence(recipe, whole, tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise ExportError("the exported graph differs from the network by 1.0e+00")

    out = tmp_path / "run"
    monkeypatch.setattr(report, "slimmable_figures", FIGURES)
    with monkeypatch.context() as patch:
        for module in (report, slimmable_report):
            for name in ("export", "export_routed", "export_subnet"):
                patch.setattr(module, name, refuse, raising=False)
        assert main(command(recipe, out)) == 1
    assert_equal(whole, out)
    [error] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    weights = out / "gate" / "ds_mobilenet_tiny.params"
    assert error == (
        f"error: the network is trained, {weights} has its weights, "
        "but the exported graph differs from the network by 1.0e+00"
    )
    assert [(out / name / "result.json").exists() for name in STAGES] == [True, True, False]
    assert main(command(recipe, out)) == 0
    assert (out / "gate" / "ds_mobilenet_tiny.json").is_file()


def test_a_picture_that_cannot_be_drawn_does_not_end_a_run(recipe, whole, tmp_path, monkeypatch, caplog):
    def no_matplotlib(*_):
        raise ImportError("the pictures of a run need matplotlib; install it")

    monkeypatch.setattr(report, "draw_curves", no_matplotlib)
    out = tmp_path / "run"
    assert main(command(recipe, out)) == 0
    assert_equal(whole, out)
    said = [line for line in caplog.messages if "need matplotlib; install it" in line]
    assert len(said) == len(STAGES) and f"the pictures of {out / 'supernet'} are not drawn" in said[0]


def test_a_finished_run_stays_as_it_is_and_changes_are_told(recipe, whole, tmp_path, caplog):
    shutil.copytree(whole, tmp_path / "again")
    assert main(command(recipe, tmp_path / "again", "stages.supernet.duration=6it")) == 0
    assert_equal(whole, tmp_path / "again")
    (warning,) = caplog.records
    assert "stage supernet is finished: the change of duration: 4it -> 6it has no effect" in warning.getMessage()


def test_fresh_starts_over(recipe, whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "again")
    assert main([*command(recipe, tmp_path / "again", "stages.supernet.duration=6it"), "--fresh"]) == 0
    assert "finished" not in capsys.readouterr().out
    assert json.loads((tmp_path / "again" / "supernet" / "result.json").read_text())["updates"] == 6


def test_a_mistake_with_fresh_keeps_the_checkpoints_of_all_stages(recipe, whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "again")
    assert main([*command(recipe, tmp_path / "again", "stages.gate.optimizer.name=sgdd"), "--fresh"]) == 1
    assert "stage gate: unknown optimizer 'sgdd'" in capsys.readouterr().err
    assert_equal(whole, tmp_path / "again")


def test_a_signal_stops_the_stage_that_runs(recipe, whole, tmp_path, monkeypatch):
    train = loop.train

    def stopped_in_the_gate(state, task, hooks):
        assert state.stage.updates_before == {"supernet": 0, "recalibrate": 4, "gate": 6}[state.stage.name]
        assert state.stage.is_last == (state.stage.name == "gate")
        if state.stage.name == "gate":
            state.workers.must_stop = lambda done: 15 if done == 6 + 3 else 0
        train(state, task, hooks)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", stopped_in_the_gate)
        assert main(command(recipe, tmp_path / "parts")) == 143
    assert [path.name for path in list_checkpoints(tmp_path / "parts" / "gate")] == [
        "update-00000002",
        "update-00000003",
    ]
    assert main(command(recipe, tmp_path / "parts")) == 0
    assert_equal(whole, tmp_path / "parts")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "stages.gate.optimizer.lrr=1",
            "unknown recipe key stages.gate.optimizer.lrr; did you mean stages.gate.optimi",
        ),
        ("stages.gate.model=x", "unknown recipe key stages.gate.model; did you mean stages.gate."),
        ("stages.gate.duration=[1]", "stages.gate.duration must be a text"),
        ("stages.gates.duration=1it", "there is no stage 'gates'; the stages are supernet, recalibrate, gate"),
        ("stages.gate=1", "is not of the form stages.NAME.key=value"),
        ("stages.gate.duration=soon", "stage gate: duration 'soon' is not of the form"),
        ("stages.gate.optimizer.name=sgdd", "stage gate: unknown optimizer 'sgdd'; did you mean 'sgd'"),
        ("stages.gate.task_options.targets=x", "stage gate: task_options.targets is 'x'"),
        ("stages.gate.hooks.emma.decay=1", "stage gate: unknown hook 'emma'; did you mean 'ema'"),
        ("stages.gate.hooks.sparsify.until=0.3", "stage gate: hooks.sparsify: ds_mobilenet_tiny has no masked layers"),
        ("stages.gate.data.batch_size=64", "stage gate: synthetic:32 has 32 training images, fewer than one global"),
        ("model=slimmable_mobilenet_v1", "stage gate: task gate needs a network with gates"),
        ("duration=3it", "--set duration has no effect, as every stage has its own duration: set stages.supernet.dur"),
        ("stages.gate.name=supernet", "the stages are called supernet, recalibrate, supernet; give each a name"),
        ("stages.gate.name=a/b", "each of stages needs a name of letters and digits .*, not 'a/b'"),
    ],
)
def test_a_mistake_in_the_last_stage_shows_before_the_first_begins(recipe, tmp_path, capsys, override, message):
    if override == "model=slimmable_mobilenet_v1":
        recipe.write_text(STAGED.replace("ds_mobilenet_tiny", "slimmable_mobilenet_v1"))
        override = "seed=1"
    assert main(command(recipe, tmp_path / "run", override)) == 1
    told = capsys.readouterr().err
    assert re.search(message, told), told
    assert not (tmp_path / "run").exists()


def test_settings_common_to_all_stages_can_be_changed(recipe):
    stages = load_recipe(recipe, ["data.batch_size=4", "seed=3", "stages.gate.duration=9it"]).split()
    assert [stage.data.batch_size for stage in stages.values()] == [4, 16, 4]
    assert {stage.seed for stage in stages.values()} == {3}
    assert stages["gate"].duration == "9it"
    assert load_recipe(recipe, ["checkpoint_every=3it"]).split()["gate"].checkpoint_every == "3it"
