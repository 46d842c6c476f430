"""Experiments: their files, the queue that trains their runs, and what is collected."""

import contextlib
import json
import os
import signal
import threading

import pytest

from gluon_effnets import _resources
from gluon_effnets.__main__ import main
from gluon_effnets.experiments import (
    Experiment,
    collect,
    experiment_table,
    first_images,
    jobs_of,
    list_experiments,
    queue,
    read_experiment,
    run_queue,
)
from gluon_effnets.experiments.definition import Comparison
from gluon_effnets.files.locks import alone_in
from gluon_effnets.runtime.recordio import Reader, Writer
from gluon_effnets.train.config import load_recipe
from tests.support.waiting import wait_until

TINY = Experiment(
    name="tiny",
    question="Which is better?",
    chosen="Nothing was.",
    data="digits",
    recipe="digits.yaml",
    seeds=(0, 1),
    baseline="plain",
    comparisons={
        "second": Comparison("second", "mobilenext_x0_35", after="plain", settings=("pretrained={after}/x.params",)),
        "plain": Comparison("plain", "mobilenet_v2_x0_35"),
    },
)

# Stands for a training run: its folder and the moment of its start go into order.txt.
RUN = """
import json, pathlib, signal, sys, time
out, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
out.mkdir(exist_ok=True)
with open(out.parent / "order.txt", "a") as file:
    file.write(out.name + "\\n")
if kind == "fail":
    sys.exit(1)
if kind == "long" and not (out / "checkpoint").exists():
    def end(*_):
        (out / "checkpoint").write_text("")
        sys.exit(143)
    signal.signal(signal.SIGTERM, end)
    (out / "ready").write_text("")
    time.sleep(600)
top1 = {"plain": 0.5, "second": 0.6}[out.name.split(".")[0]] + 0.1 * int(out.name[-1])
lines = [{"kind": "train", "epoch": 0.5, "loss": 2.0, "images_per_s": 10.0}, {"kind": "eval", "epoch": 1, "top1": top1}]
(out / "log.jsonl").write_text("\\n".join(map(json.dumps, lines)))
(out / "run.json").write_text(json.dumps({"commit": "abc", "date": "today", "operators": "compiled"}))
(out / "result.json").write_text(json.dumps({"top1": top1, "madds": 1e6, "params": 5}))
"""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A queue whose runs are RUN; the function takes the kinds of runs by their folders."""
    script, kinds = tmp_path / "run.py", {}
    script.write_text(RUN)

    def command(experiment, job, source, out):
        return [str(script), str(out), kinds.get(out.name, "short")]

    monkeypatch.setattr(queue, "command", command)
    monkeypatch.setattr(queue, "_LOOK_S", 0.02)
    return kinds


def order(tmp_path):
    return (tmp_path / "tiny" / "order.txt").read_text().split()


def test_all_runs_train_once_and_after_those_that_they_begin_from(runs, tmp_path):
    lines = []
    assert run_queue(TINY, "digits", tmp_path, 1, lines.append) == 0
    assert order(tmp_path) == ["plain.0", "second.0", "plain.1", "second.1"]
    assert lines[0] == "tiny: 4 runs, 0 of them finished"
    assert any(line.startswith("second, seed 1: finished in 0.0 min, top1 70.00%") for line in lines)
    assert run_queue(TINY, "digits", tmp_path, 1, lines.append) == 0
    assert len(order(tmp_path)) == 4 and lines[-1] == "tiny: 4 runs, 4 of them finished"


def test_a_run_that_fails_is_told_and_what_begins_from_it_waits(runs, tmp_path):
    runs["plain.0"] = "fail"
    lines = []
    assert run_queue(TINY, "digits", tmp_path, 2, lines.append) == 1
    assert any(line.startswith("plain, seed 0: failed with exit code 1, see ") for line in lines)
    assert "1 runs wait for others that are not finished: second, seed 0" in lines
    assert sorted(order(tmp_path)) == ["plain.0", "plain.1", "second.1"]


def test_a_signal_stops_all_runs_and_the_same_call_goes_on(runs, tmp_path):
    runs.update({"plain.0": "long", "plain.1": "long"})

    def stop():
        ready = [tmp_path / "tiny" / f"plain.{seed}" / "ready" for seed in (0, 1)]
        wait_until(lambda: all(path.exists() for path in ready))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    lines = []
    assert run_queue(TINY, "digits", tmp_path, 2, lines.append) == 143
    thread.join()
    assert lines[-1] == "stopping 2 runs after a checkpoint; the same command goes on with them"
    assert all((tmp_path / "tiny" / f"plain.{seed}" / "checkpoint").exists() for seed in (0, 1))
    assert run_queue(TINY, "digits", tmp_path, 2, lines.append) == 0


def test_two_queues_share_the_runs(runs, tmp_path):
    held = tmp_path / "tiny" / "plain.1.queue"
    held.mkdir(parents=True)
    lines = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone_in(held))
        assert run_queue(TINY, "digits", tmp_path, 1, lines.append) == 1
    assert "plain, seed 1: another process has it" in lines
    assert "plain.1" not in order(tmp_path)


def test_what_is_finished_is_collected_with_paired_differences(runs, tmp_path):
    run_queue(TINY, "digits", tmp_path, 1, lambda line: None)
    content = collect(TINY, tmp_path, tmp_path / "results")
    assert content == json.loads((tmp_path / "results" / "tiny.json").read_text())
    assert [(row["comparison"], row["seed"], row["score"]) for row in content["rows"]] == [
        ("second", 0, 60.0), ("plain", 0, 50.0), ("second", 1, 70.0), ("plain", 1, 60.0),
    ]  # fmt: skip
    assert content["rows"][0]["commit"] == "abc" and content["rows"][0]["command"].startswith("python ")
    assert (tmp_path / "results" / "tiny" / "second.1.jsonl").is_file()
    assert (tmp_path / "results" / "tiny.png").stat().st_size > 5000
    told = {row[""]: row for row in experiment_table(content).records()}
    # Seeds differ by 10 points, the networks by 10 with the same seed, each time.
    assert told["second"]["against plain, points"] == "+10.00 (+10.00 to +10.00)"
    assert told["plain"]["against plain, points"] is None
    assert told["plain"]["top1, %"].startswith("55.00 ± 63.5")
    with pytest.raises(ValueError, match="no run of tiny is finished"):
        collect(TINY, tmp_path / "nowhere", tmp_path / "results")


def test_the_command_of_a_run_can_be_repeated(tmp_path):
    job = next(job for job in jobs_of(TINY, tmp_path) if job.comparison.name == "second")
    words = queue.command(TINY, job, "digits", tmp_path / "out")
    assert words[:3] == ["-m", "gluon_effnets", "train"]
    assert f"pretrained={tmp_path / 'tiny' / 'plain.0'}/x.params" in words
    assert words[-1] == "seed=0"


@pytest.mark.parametrize("name", list_experiments())
def test_shipped_experiments_have_recipes_that_load(name, tmp_path):
    experiment = read_experiment(name)
    assert experiment.question.endswith("?") and experiment.baseline in experiment.comparisons
    for job in jobs_of(experiment._replace(seeds=(0,)), tmp_path):
        words = queue.command(experiment, job, f"{experiment.data}:DIR", tmp_path)
        overrides = [word for place, word in enumerate(words) if words[place - 1] == "--set"]
        named = [f"model={job.comparison.model}", f"data.source={experiment.data}:DIR"]
        recipe = load_recipe(words[words.index("--config") + 1], [*overrides, *named])
        assert recipe.seed == 0


def test_fewer_images_are_the_first_ones(tmp_path):
    source, out = tmp_path / "all", tmp_path / "some"
    source.mkdir()
    (source / "classes.txt").write_text("a\nb\n")
    for part, number in (("train", 5), ("test", 3)):
        with Writer(source / f"{part}.rec") as writer:
            for key in range(number):
                writer.append(f"{part}{key}".encode(), key % 2)
    assert first_images(source, out, {"train": 2}) == out
    with Reader(out / "train.rec") as some, Reader(out / "test.rec") as test:
        assert [record.content for record in some] == [b"train0", b"train1"]
        assert [record.label for record in some] == [0, 1]
        assert len(test) == 3
    assert (out / "classes.txt").read_text() == "a\nb\n"
    first_images(source, out, {"train": 2})  # what is there is kept
    with pytest.raises(ValueError, match="has 5 images, 6 are asked for"):
        first_images(source, tmp_path / "more", {"train": 6})
    with pytest.raises(ValueError, match="has no val.rec"):
        first_images(source, tmp_path / "other", {"val": 6})


def test_the_command_lists_and_tells(capsys, tmp_path):
    assert main(["experiment", "--format", "json"]) == 0
    assert {row["experiment"] for row in json.loads(capsys.readouterr().out)} == set(list_experiments())
    assert main(["experiment", "digits", "--status", "--out", str(tmp_path), "--seeds", "7", "--format", "json"]) == 0
    assert {(row["seed"], row["run"]) for row in json.loads(capsys.readouterr().out)} == {(7, "not finished")}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing"], "there is no experiment 'nothing'; there are condensenet, condensenet_factors, "),
        (["digits", "--only", "other"], "digits has no network 'other'; it has 'without'"),
        (["idle"], "idle needs cifar10 images: name their folder by --data DIR"),
        (["digits", "--side-by-side", "0"], "at least one run trains at a time"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message, capsys, tmp_path):
    assert main(["experiment", *arguments, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, message",
    [
        (("baseline: without", "baseline: other"), "names the comparison 'other', which it does not have"),
        (("seeds: [0, 1]", "seeds: []"), "seeds has 0 entries"),
        (("question:", "questions:"), "lacks 'question'"),
    ],
)
def test_a_damaged_file_is_one_sentence(change, message, tmp_path):
    text = (_resources.folder("configs") / "experiments" / "digits.yaml").read_text()
    (tmp_path / "damaged.yaml").write_text(text.replace(*change))
    with pytest.raises(ValueError, match=message):
        read_experiment(str(tmp_path / "damaged.yaml"))


def test_a_real_run(tmp_path):
    """One update of a small network: what the queue starts is the trainer."""
    quick = TINY._replace(
        seeds=(0,),
        settings=("duration=1it", "evaluate_every=1it", "schedule.warmup=0it", "model_options.stem_stride=2"),
        comparisons={"plain": Comparison("plain", "mobilenet_v3_small")},
    )
    assert run_queue(quick, "digits", tmp_path, 1, lambda line: None) == 0
    assert len(collect(quick, tmp_path, tmp_path / "results")["rows"]) == 1
