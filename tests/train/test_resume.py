"""A run that was stopped and goes on is the run that was never stopped, bit for bit; checkpoints survive accidents."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple, Tuple

import mxnet as mx
import numpy as np
import pytest
import trackers
from detection_runs import detector_tiny
from runs import TINY_SPACE, assert_resumes, content, logged, save_teacher
from waiting import PATIENCE_S

from gluon_effnets.files.write import SCRATCH
from gluon_effnets.train import checkpoint, loop
from gluon_effnets.train.checkpoint import list_checkpoints
from gluon_effnets.train.hooks import HOOKS, Hook
from gluon_effnets.train.hooks.sparsify import SPARSITY
from gluon_effnets.train.hooks.tracker import Tracker
from gluon_effnets.train.optim import OPTIMIZERS
from gluon_effnets.train.signals import Stopped
from gluon_effnets.train.tasks import TASKS


class Case(NamedTuple):
    """Under which settings an object has an effect, and whether it must remember anything from update to update."""

    stateful: bool
    overrides: Tuple[str, ...] = ()


DARTS = (
    "model=darts_search",
    f"model_options={{space: {TINY_SPACE}, channels: 4, layers: 5, nodes: 1}}",
    "data={source: 'synthetic:64', image_size: 8, batch_size: 8, augment: none, kept_back: 0.5}",
    "optimizer={name: sgd, lr: 0.1, options: {momentum: 0.9}}",
    "hooks.architecture={lr: 0.1}",
)
ONE_NODE = "[[max_pool_3x3, 0], [sandglass_3x3, 1]]"
CELLS = (
    "model=darts_cells",
    f"model_options={{genotype: {{normal: {ONE_NODE}, reduce: {ONE_NODE}}}, channels: 4, layers: 5, auxiliary: true}}",
    "data={source: 'synthetic:16', image_size: 32, batch_size: 8, augment: none}",
)

# Every hook, task and optimizer of ours stands here: a new one must be entered, and its word is put to the test.
HOOK_CASES = {
    "architecture": Case(True, (*DARTS, "task=darts")),
    "clip_gradients": Case(False, ("hooks.clip_gradients.max_norm=0.1",)),
    "cutmix": Case(False, ("hooks.cutmix={off_last: 1it}",)),
    "drop_path": Case(False, (*CELLS, "hooks.drop_path.final=0.9")),
    "ema": Case(True, ("hooks.ema={}",)),
    "mixup": Case(False, ("hooks.mixup={alpha: 1.0, off_last: 1it}",)),
    "mlflow": Case(False, ("hooks.mlflow.every=1",)),
    "recompute_statistics": Case(False, ("hooks.recompute_statistics.duration=3it",)),
    "sparsify": Case(True, ("hooks.sparsify={}", "model=condensenet_tiny")),
    "tensorboard": Case(False, ("hooks.tensorboard.every=1",)),
    "wandb": Case(False, ("hooks.wandb.every=1",)),
}
# What is part of every run. AverageStatistics is that of several workers, and has a test among theirs.
SERVICE_CASES = {
    "AverageStatistics": Case(False),
    "Checkpoint": Case(True, ("evaluate_every=1it", "checkpoint_every=1it", "duration=6it")),
    "JsonLines": Case(True),
    "Progress": Case(False),
    "SkippedUpdates": Case(False),
    "Unpruned": Case(False, ("model=condensenet_tiny",)),
    "Watched": Case(False),
}
DSNET = ("model=ds_mobilenet_tiny", "model_options={dropout: 0.2}")
ONE_SHOT = ("task_options={sides: both, statistics_batches: 1}",)
# A task remembers nothing: what it must is a parameter of the network, or a hook.
TASK_CASES = {
    "auxiliary": Case(False, CELLS),
    "classification": Case(False, ("task_options.label_smoothing=0.1",)),
    "darts": Case(False, (*DARTS, "task_options.order=2")),
    "detection": Case(
        False, (f"model={detector_tiny.__name__}", "data.source=scattered_digits:32", "data.image_size=64")
    ),
    "distill": Case(False, ("task_options={{teacher: plain_tiny, weights: {weights}, label_smoothing: 0.1}}",)),
    "gate": Case(False, (*DSNET, "task_options.noise=true", "hooks.ema.decay=0.9")),
    "recalibrate": Case(False, DSNET),
    "single_path": Case(False, ("model=mobilenet_v3_small", "model_options={multiplier: 0.25}", *ONE_SHOT)),
    "slimmable": Case(False, (*DSNET, "task_options.targets=ensemble", "hooks.ema.decay=0.9")),
}
# By name, and what else tells them apart; of MXNet's those that recipes are likely to have. All remember something.
OPTIMIZER_CASES = {
    "sgd": {"momentum": 0.9},
    "nag": {"momentum": 0.9},
    "adam": {},
    "nadam": {},
    "rmsprop": {},
    "lars": {"momentum": 0.9},
    "lamb": {},
    "lb_sgd": {"momentum": 0.9, "batch_scale": 4, "warmup_updates": 3},
    "lb_sgd lars": {"momentum": 0.9, "warmup_strategy": "lars"},
    "lbsgd": {"momentum": 0.9, "batch_scale": 2, "warmup_epochs": 1, "updates_per_epoch": 3},
    "rmsprop_tf": {"momentum": 0.9, "epsilon": 1.0e-3},
}


@pytest.fixture
def teacher(tmp_path):
    return save_teacher(tmp_path / "teacher.params")


def assert_has_effect(run, start, *overrides):
    plain = start(*overrides, out="plain").train()
    same = all((run.weights()[key] == plain.weights()[key]).all() for key in plain.weights())
    assert not same or run.state.scores != plain.state.scores


def test_plain_in_the_middle_of_an_epoch(start):
    assert_resumes(start)


def test_at_the_end_of_an_epoch_after_its_evaluation(start):
    assert_resumes(start, "data.source=synthetic:16", "evaluate_every=1ep")


def test_two_runs_are_equal_with_evaluations_between_updates(start):
    overrides = ["data.source=synthetic:16", "evaluate_every=1it", "duration=3ep"]
    runs = [start(*overrides, out=str(number)).train() for number in range(4)]
    assert all(content(run, 6) == content(runs[0], 6) for run in runs[1:])


def test_at_the_end_of_an_epoch_without_evaluation(start):
    assert_resumes(start, "data.source=synthetic:16")


def test_in_the_middle_of_the_second_epoch(start):
    assert_resumes(start, "data.source=synthetic:24", "duration=2ep", killed_after=5, saved=4)


def test_accumulated_batches(start):
    assert_resumes(start, "data.source=synthetic:64", "accumulate=2")


def test_everything_random_at_once(start):
    overrides = ["model_options={dropout: 0.5, drop_connect: 0.5}", "data.augment=imagenet", "accumulate=2"]
    overrides += [
        "hooks={mixup: {alpha: 1.0}, cutmix: {}, ema: {}, recompute_statistics: {}}",
        "data.source=synthetic:64",
    ]
    assert_resumes(start, *overrides)


def outcome(run):
    """What a run leaves, but for the states of its hooks: only their effects are here."""
    folder = run.state.out
    kept = [path.name for path in list_checkpoints(folder)]
    files = {name: value for name, value in content(run, run.state.total_updates).items() if name in NET_AND_TRAINER}
    sparsity = (folder / SPARSITY).read_bytes() if (folder / SPARSITY).exists() else b""
    return files, logged(run), dict(run.state.scores), kept, sparsity


NET_AND_TRAINER = ("net.params", "trainer.params")


def assert_remembers(start, case, kind, *overrides, killed_after=3):
    """A resumed run is the whole one; without the states of a class it is another if that is stateful, only then."""
    whole = outcome(start(*overrides, out="remembering").train())
    stopped = start(*overrides, out="stopped")
    stopped.train_until_killed(killed_after)

    def resumed(out, *forgetful):
        shutil.copytree(stopped.state.out, stopped.state.out.with_name(out))
        again = start(*overrides, out=out)
        for hook in again.hooks:
            if type(hook) in forgetful:
                hook.load_state_dict = lambda values: None
        return outcome(again.resume().train())

    assert resumed("honest") == whole
    assert (resumed("forgetting", kind) != whole) == case.stateful, f"{kind.__name__}: stateful={case.stateful}?"
    declares = kind.state_dict is not Hook.state_dict
    assert declares == case.stateful, f"{kind.__name__} is entered as stateful={case.stateful}; see its state_dict"


def assert_entered(cases, known):
    missing = set(known) - {name.split()[0] for name in cases}
    assert not missing, f"enter {', '.join(sorted(missing))} in the cases of this file"


def our_hooks(kind=Hook):
    for hook in kind.__subclasses__():
        yield from our_hooks(hook)
        if hook.__module__.startswith("gluon_effnets.train."):
            yield hook


def test_all_of_ours_are_entered():
    assert_entered(HOOK_CASES, HOOKS)
    assert_entered(TASK_CASES, TASKS)
    assert_entered(OPTIMIZER_CASES, OPTIMIZERS)
    hooks = {hook.__name__ for hook in our_hooks()} - {Tracker.__name__}  # which is a part of three of them
    assert_entered({*SERVICE_CASES, *(HOOKS[name].__name__ for name in HOOK_CASES)}, hooks)


@pytest.mark.parametrize("name", sorted(HOOK_CASES))
def test_hook(start, name, monkeypatch):
    if name == "tensorboard":
        pytest.importorskip("tensorboardX")
    trackers.install(monkeypatch)
    case = HOOK_CASES[name]
    whole = assert_resumes(start, *case.overrides)
    assert_remembers(start, case, HOOKS[name], *case.overrides)
    if not issubclass(HOOKS[name], Tracker) and name != "architecture":  # which belongs to a task
        assert_has_effect(whole, start, *(text for text in case.overrides if not text.startswith("hooks")))


def falling_scores(run):
    """Let the first evaluation be the best."""
    run.task.evaluate = lambda state, batch: {"count": batch.num_valid, "top1": batch.num_valid / (1 + state.update)}
    return run


@pytest.mark.parametrize("name", sorted(SERVICE_CASES))
def test_service_hook(start, name):
    case, kinds = SERVICE_CASES[name], {kind.__name__: kind for kind in our_hooks()}

    def begin(*overrides, **options):
        return falling_scores(start(*overrides, **options))

    assert_remembers(begin, case, kinds[name], *case.overrides)


@pytest.mark.parametrize("name", sorted(TASK_CASES))
def test_task(start, teacher, name):
    case = TASK_CASES[name]
    assert not case.stateful and not hasattr(TASKS[name], "state_dict")
    overrides = [text.format(weights=teacher) if name == "distill" else text for text in case.overrides]
    assert_resumes(start, f"task={name}", *overrides)


@pytest.mark.parametrize("saved", [1, 2])
@pytest.mark.parametrize("name", sorted(OPTIMIZER_CASES))
def test_optimizer(start, name, saved):
    options = OPTIMIZER_CASES[name]
    optimizer = {"name": name.split()[0], "lr": 0.01, "weight_decay": 1e-4, "options": options}
    overrides = [f"optimizer={json.dumps(optimizer)}", f"checkpoint_every={saved}it"]
    whole = assert_resumes(start, *overrides, killed_after=saved + (saved > 1), saved=saved)
    assert_has_effect(whole, start)


@pytest.mark.parametrize("name", sorted(OPTIMIZER_CASES))
def test_an_optimizer_without_its_states_is_another_run(start, monkeypatch, name):
    optimizer = {"name": name.split()[0], "lr": 0.01, "weight_decay": 1e-4, "options": OPTIMIZER_CASES[name]}
    override = f"optimizer={json.dumps(optimizer)}"
    whole = start(override, out="whole").train()
    start(override, out="parts").train_until_killed(3)
    again = start(override, out="parts")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_set_trainer_state", lambda *_: None)
        again.resume()
    again.train()
    assert any((again.weights()[key] != value).any() for key, value in whole.weights().items())


class Counting(mx.optimizer.SGD):
    """Stands for an optimizer that keeps something outside of the states of the weights."""

    fields = ("half",)

    def __init__(self, **options):
        super().__init__(**options)
        self.half = 1.0

    def _get_lrs(self, indices):
        self.half /= 2
        return [lr * self.half for lr in super()._get_lrs(indices)]


class Forgetting(Counting):
    fields = ()


@pytest.mark.parametrize(("name", "is_kept"), [("Counting", True), ("Forgetting", False)])
def test_an_optimizer_says_what_else_it_must_keep(start, name, is_kept):
    override = f"optimizer={{name: '{__name__}:{name}', lr: 0.5}}"
    whole = start(override, out="whole").train()
    start(override, out="parts").train_until_killed(3)
    again = start(override, out="parts").resume().train()
    assert all((again.weights()[key] == value).all() for key, value in whole.weights().items()) == is_kept


@pytest.mark.parametrize("schedule", ["{name: exponential, every: 0.375ep, factor: 0.5}", "{name: poly, final: 0.1}"])
def test_schedule(start, schedule):
    whole = assert_resumes(start, f"schedule={schedule}")
    assert_has_effect(whole, start)


class Counter(Hook):
    """A hook with a state, which writes it among the scalars."""

    def __init__(self):
        self.count = 0

    def batch_end(self, state):
        self.count += 1
        state.scalars["count"] = self.count

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, values):
        self.count = values["count"]


def test_extra_hooks_keep_their_states_each_its_own(start):
    def two():
        hooks = [Counter(), Counter()]
        hooks[0].count = 100
        return hooks

    whole = start(out="whole", extra_hooks=two()).train()
    start(out="parts", extra_hooks=two()).train_until_killed(3)
    again = start(out="parts", extra_hooks=two()).resume().train()
    assert [hook.count for hook in again.hooks.extra] == [hook.count for hook in whole.hooks.extra] == [104, 4]
    assert content(again, 4) == content(whole, 4)
    assert logged(again) == logged(whole)
    assert list(run_record(whole)["hooks"]["dict"][0])[0] == f"{__name__}:Counter"


def run_record(run):
    return json.loads(content(run, run.state.total_updates)["run.json"])


def test_a_hook_behind_the_checkpoint_is_refused(start):
    run = start()
    with pytest.raises(AttributeError, match="append"):
        run.hooks.append(Hook())
    with pytest.raises(ValueError, match="hook Counter stands behind the checkpoint.*extra_hooks"):
        loop.train(run.state, run.task, [*run.hooks, Counter()])
    with pytest.raises(ValueError, match="hook Counter has a state that no checkpoint would keep.*extra_hooks"):
        loop.train(run.state, run.task, [Counter(), *run.hooks])
    assert run.state.update == 0


def test_a_finished_run_stays_as_it_is(start):
    done = start().train()
    again = start().resume().train()
    assert again.state.scores == done.state.scores
    assert logged(again) == logged(done)
    assert all((again.weights()[key] == value).all() for key, value in done.weights().items())


def test_nothing_to_resume_from(start):
    run = start().resume()
    assert run.state.update == 0


def test_changes_of_the_recipe_are_listed(start, capsys):
    start().train()
    start("optimizer.lr=0.01", "hooks.ema.decay=0.5").resume()
    told = capsys.readouterr().out
    assert "optimizer.lr: 0.05 -> 0.01" in told
    assert "hooks.ema.decay: None -> 0.5" in told
    assert "duration" not in told


def test_another_optimizer_starts_with_fresh_states(start, caplog):
    start().train_until_killed(3)
    run = start("optimizer={name: adam, lr: 0.01}").resume().train()
    assert run.state.update == 4
    assert "optimizer" in caplog.text


def test_momentum_can_be_added_on_resume(start):
    start("optimizer.options={}").train_until_killed(3)
    run = start().resume().train()
    states = run.state.trainer._updaters[0].states.values()
    assert max(np.abs(state.asnumpy()).max() for state in states) > 0


def test_a_hook_added_on_resume_leaves_the_others_their_states(start, caplog):
    start("hooks={ema: {}}").train_until_killed(3)
    kept = start("hooks={clip_gradients: {max_norm: 1.0}, ema: {}}").resume()
    fresh = start("hooks={ema: {}}").resume()
    (ema,) = (hook for hook in kept.hooks if type(hook).__name__ == "EMA")
    for name, array in fresh.hooks[0].average.items():
        assert (ema.average[name].asnumpy() == array.asnumpy()).all()
    assert not caplog.records


def test_a_hook_without_states_in_the_checkpoint_is_named(start, caplog):
    start().train_until_killed(3)
    start("hooks={ema: {}}").resume().train()
    assert "EMA" in caplog.text


@pytest.mark.parametrize("change", ["data.classes=7", "model=mobilenet_v3_small"])
def test_checkpoint_of_another_network_is_refused(start, change):
    start().train()
    other = start(change)
    before = other.weights()
    with pytest.raises(ValueError, match="another network.*idle_tiny.*--out.*--fresh"):
        other.resume()
    assert all((value == before[key]).all() for key, value in other.weights().items())


def test_checkpoint_of_the_same_shapes_but_another_definition_is_refused(start):
    start().train_until_killed(2)
    with pytest.raises(ValueError, match="bn_epsilon=1e-05 .here 0.001"):
        start("model_options.bn_epsilon=0.001").resume()


def test_no_pickle_anywhere(start, monkeypatch):
    run = start("hooks={ema: {}, mixup: {}}", "optimizer={name: lbsgd, options: {momentum: 0.9}}").train()
    for name, start_of_file in ((name, data[:8]) for name, data in content(run, 4).items()):
        arrays = int.from_bytes(start_of_file, "little") == 0x112
        text = start_of_file.decode("ascii", "replace").isprintable() or start_of_file.startswith(b"{")
        assert arrays if name.endswith(".params") else text, name

    def refuse(*args, **kwargs):
        raise AssertionError("a checkpoint was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(np, "load", refuse)
    again = start("hooks={ema: {}, mixup: {}}", "optimizer={name: lbsgd, options: {momentum: 0.9}}").resume()
    assert again.state.update == 4


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_damaged_newest_checkpoint_falls_back_to_the_older(start, tmp_path, caplog, damage):
    start("hooks={ema: {}}").train()
    for name in sorted(path.name for path in list_checkpoints(tmp_path / "run")[-1].iterdir()):
        shutil.copytree(tmp_path / "run", tmp_path / name)
        damage(tmp_path / name / "checkpoints" / "update-00000004" / name)
        caplog.clear()
        assert start("hooks={ema: {}}", out=name).resume().state.update == 2, name
        (warning,) = caplog.records
        assert "update-00000004" in warning.getMessage()


def test_a_wrong_number_in_the_record_is_noticed(start, tmp_path):
    start().train()
    path = tmp_path / "run" / "checkpoints" / "update-00000004" / "run.json"
    path.write_text(path.read_text().replace('"update": 4', '"update": 3', 1))
    assert start().resume().state.update == 2


def test_resume_after_a_damaged_checkpoint_repairs_it(start, tmp_path):
    whole = start(out="whole").train()
    start().train()
    cut(tmp_path / "run" / "checkpoints" / "update-00000004" / "net.params")
    again = start().resume().train()
    assert content(again, 4) == content(whole, 4)
    assert logged(again) == logged(whole)


def test_all_checkpoints_damaged_starts_anew(start, tmp_path, caplog):
    start().train()
    for folder in list_checkpoints(tmp_path / "run"):
        cut(folder / "net.params")
    assert start().resume().state.update == 0
    assert len(caplog.records) == 2


@pytest.mark.parametrize("update", [3, 4])  # after the last one no checkpoint follows
def test_leftovers_of_a_killed_save_are_ignored_and_removed(start, tmp_path, caplog, update):
    start().train_until_killed(3) if update == 3 else start().train()
    leftover = tmp_path / "run" / "checkpoints" / f"{SCRATCH}abcdefgh"
    leftover.mkdir()
    (leftover / "net.params").write_bytes(b"\x12\x01")
    again = start().resume()
    assert (again.state.update, caplog.records) == (update // 2 * 2, [])
    again.train()
    names = sorted(path.name for path in leftover.parent.iterdir())
    assert names == ["update-00000002", "update-00000004"]


def test_old_checkpoints_go_and_the_best_stays(start, tmp_path):
    run = start("duration=8it", "checkpoint_every=1it", "evaluate_every=2it")
    scores = iter([0.5, 0.9, 0.7, 0.6])
    run.task.evaluate = lambda state, batch: {"count": batch.num_valid, "top1": next(scores) * batch.num_valid}
    run.train()
    names = [path.name for path in list_checkpoints(tmp_path / "run")]
    assert names == ["update-00000004", "update-00000007", "update-00000008"]
    assert run.hooks[-1].best == {"score": 0.9, "which": "top1", "update": 4, "updates_per_epoch": 4}


def disk_full(*args, **kwargs):
    raise OSError(28, "No space left on device")


def mxnet_full(*args, **kwargs):
    raise mx.base.MXNetError("Traceback ...\nCheck failed: fwrite")


@pytest.mark.parametrize(
    ("owner", "name", "fault", "reason"),
    [
        (os, "fsync", disk_full, "No space left on device"),
        (Path, "mkdir", disk_full, "No space left on device"),
        (mx.nd, "save", mxnet_full, "Check failed: fwrite"),
        (os, "replace", disk_full, "No space left on device"),
    ],
)
def test_failure_to_save_is_told_and_harms_nothing(start, monkeypatch, owner, name, fault, reason):
    run = start(out="whole")
    run.train_until_killed(3)
    before = content(run, 2)
    again = start(out="whole").resume()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fault)
        with pytest.raises(OSError, match=f"cannot save a checkpoint .*: {reason}. Is the disk full?"):
            again.train()
    assert content(again, 2) == before
    assert [path.name for path in (again.state.out / "checkpoints").iterdir()] == ["update-00000002"]
    start(out="whole").resume().train()
    assert content(again, 4) == content(start(out="other").train(), 4)


def run_python(code, *arguments, before=()):
    program = textwrap.dedent(code)
    command = [*before, sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def can_mount() -> bool:
    try:
        command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small file system")
def test_a_disk_that_really_fills_up(recipe_file, tmp_path):
    code = """
        import os, subprocess, sys
        from gluon_effnets.commands.train import main
        out, recipe = sys.argv[1:]
        os.makedirs(out)
        # Room for the first checkpoint (about 90 kB), not for the second.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "none", out], check=True)
        code = main(["--config", recipe, "--out", out])
        kept = os.listdir(out + "/checkpoints")
        sys.exit(3 if code == 1 and kept == ["update-00000002"] else 4)
    """
    done = run_python(code, tmp_path / "small", recipe_file, before=["unshare", "-m"])
    assert done.returncode == 3, done.stdout + done.stderr
    assert "cannot save a checkpoint" in done.stderr
    assert "Is the disk full?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("file", ["net.params", "run.json"])
def test_kill_during_a_save(start, recipe_file, tmp_path, file):
    code = """
        import os, signal, sys
        from gluon_effnets.commands.train import main
        from gluon_effnets.files import write
        out, recipe, file = sys.argv[1:]
        sync = write.sync
        def kill_in_second_save(path):
            sync(path)
            if "update-00000004" in str(path) and path.name == file:
                os.kill(os.getpid(), signal.SIGKILL)
        write.sync = kill_in_second_save
        main(["--config", recipe, "--out", out])
    """
    done = run_python(code, tmp_path / "run", recipe_file, file)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert left[0].startswith(SCRATCH)
    assert left[1:] == ["update-00000002"]
    again = start().resume()
    assert again.state.update == 2
    again.train()
    whole = start(out="whole").train()
    assert content(again, 4) == content(whole, 4)
    assert logged(again) == logged(whole)


STOPPED = {
    "within the run": ("evaluate_every=2it", "duration=4it"),
    "the last one": ("evaluate_every=4it", "duration=4it"),
    "of the average": ("evaluate_every=2it", "duration=4it", "hooks.ema={}"),
}


@pytest.mark.parametrize("name", STOPPED)
def test_a_signal_within_an_evaluation_ends_it_and_it_is_repeated(name, start):
    """Ctrl-C and SIGTERM waited for the end of the evaluation, however long."""
    overrides = (*STOPPED[name], "checkpoint_every=100it", "data.eval_batch_size=2")
    whole = start(*overrides, out="whole").train()
    parts, asked = start(*overrides, out="parts"), []
    evaluate, number = parts.task.evaluate, len(list(parts.state.data.val_batches()))
    assert number == 4

    def evaluate_and_ask(state, batch):
        asked.append(state.update)
        if len(asked) == (2 if name != "of the average" else number + 2):
            state.workers.ask_to_stop(signal.SIGTERM)
        return evaluate(state, batch)

    parts.task.evaluate = evaluate_and_ask
    with pytest.raises(Stopped) as stopped:
        parts.train()
    update = 4 if name == "the last one" else 2
    assert len(asked) % number == 2 and set(asked) == {update} and f"after update {update}" in str(stopped.value)
    again = start(*overrides, out="parts").resume()
    assert again.state.update == update and again.state.evaluation_due
    again.train()
    assert content(again, 4) == content(whole, 4)
    scores = [{k: v for k, v in line.items() if k != "images_per_s"} for line in whole.log() if line["kind"] == "eval"]
    assert [line for line in logged(again) if line["kind"] == "eval"] == scores
