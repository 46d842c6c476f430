"""Hooks against NumPy, and what a run tells while it works."""

from __future__ import annotations

import errno
import io
import json
import math
import sys

import cv2
import mxnet as mx
import numpy as np
import pytest
from images import photo

from gluon_effnets.train import loop
from gluon_effnets.train.checkpoint import list_checkpoints
from gluon_effnets.train.hooks import HOOKS, Hook, make_hooks
from gluon_effnets.train.hooks.logs import NotFinite
from gluon_effnets.train.hooks.mixup import cut_box
from gluon_effnets.train.tasks import Classification, make_task


def mixed_batches(run, update, count=1):
    """Batches of one update before and after the hook mixup."""
    hook, (batch, *_) = run.hooks[0], list(run.state.data.train_batches(0))
    run.state.update = update
    hook.train_begin(run.state)
    return batch, [hook.batch_begin(run.state, batch) for _ in range(count)]


def test_mixup_against_numpy(start):
    run = start("hooks={mixup: {alpha: 0.7}}", "seed=3")
    batch, mixed = mixed_batches(run, update=2, count=2)
    one_hot = np.eye(10)[batch.label.asnumpy()]
    x = batch.data.asnumpy()
    for micro, seen in enumerate(mixed):
        lam = np.random.RandomState([3, 2, micro, 0]).beta(0.7, 0.7)
        assert seen.data.asnumpy() == pytest.approx(lam * x + (1 - lam) * x[::-1], abs=1e-5)
        assert seen.label.asnumpy() == pytest.approx(lam * one_hot + (1 - lam) * one_hot[::-1], abs=1e-6)
        assert seen.num_valid == batch.num_valid
    assert not (mixed[0].data.asnumpy() == mixed[1].data.asnumpy()).all(), "each batch of an update has its own lam"


def test_mixup_draws_from_beta(start):
    run = start("hooks={mixup: {alpha: 0.2}}", "duration=400it")
    hook, batch = run.hooks[0], next(iter(run.state.data.train_batches(0)))
    hook.train_begin(run.state)
    shares = []
    for run.state.update in range(400):
        shares.append(hook.batch_begin(run.state, batch).label.asnumpy()[0].max())
    # Beta(0.2, 0.2) has variance 1 / (4 (2 alpha + 1)) around a half; the larger share is seen.
    around = 2 * (np.array(shares) - 0.5) ** 2
    assert around.mean() == pytest.approx(0.357, abs=0.06)


def test_mixup_is_off_at_the_end(start):
    run = start("hooks={mixup: {off_last: 1it}}")
    assert mixed_batches(run, update=2)[1] != [None]
    assert mixed_batches(run, update=3)[1] == [None]


def test_cutmix_against_numpy(start):
    run = start("hooks={cutmix: {alpha: 0.7}}", "seed=3", "data.image_size=24")
    batch, mixed = mixed_batches(run, update=2, count=20)
    x, one_hot = batch.data.asnumpy(), np.eye(10)[batch.label.asnumpy()]
    shares = []
    for seen in mixed:
        data = seen.data.asnumpy()
        cut = (data != x).any(axis=(0, 1))
        shares.append(cut.mean())
        rows, columns = np.flatnonzero(cut.any(axis=1)), np.flatnonzero(cut.any(axis=0))
        assert cut.sum() == len(rows) * len(columns), "a box"
        assert (data[:, :, cut] == x[::-1][:, :, cut]).all()
        expected = (1 - cut.mean()) * one_hot + cut.mean() * one_hot[::-1]
        assert seen.label.asnumpy() == pytest.approx(expected, abs=1e-6), "in the share of the pixels"
        assert seen.num_valid == batch.num_valid
    assert len(set(shares)) > 10, "each batch of an update has its own box"


def boxes(height, width, lam, count=4000):
    random = np.random.RandomState(0)
    return np.array([cut_box(height, width, lam, random) for _ in range(count)])


@pytest.mark.parametrize("lam", [0.1, 0.5, 0.9])
def test_boxes_of_cutmix_have_the_area_of_the_paper(lam):
    top, bottom, left, right = boxes(200, 100, lam).T
    assert min(top) == min(left) == 0 and max(bottom) == 200 and max(right) == 100
    inside = (top > 0) & (bottom < 200) & (left > 0) & (right < 100)
    areas = (bottom - top) * (right - left) / 20_000
    if inside.any():
        assert areas[inside] == pytest.approx(1 - lam, abs=0.03)
        assert len(set(areas[inside])) == 1
    # Of sides r of the image around an even pixel r (1 - r / 4) are left by the border, on average.
    side = (1 - lam) ** 0.5
    assert areas.mean() == pytest.approx((side * (1 - side / 4)) ** 2, abs=0.015)


@pytest.mark.parametrize(
    ("options", "cut", "blended"), [("{}", 0.5, 0.5), ("{switch: 0.2, probability: 0.5}", 0.1, 0.8)]
)
def test_a_batch_is_mixed_in_one_way(start, options, cut, blended):
    run = start(f"hooks={{mixup: {{}}, cutmix: {options}}}", "duration=600it", "data.image_size=24")
    hooks, batch = run.hooks[:2], next(iter(run.state.data.train_batches(0)))
    for hook in hooks:
        hook.check(run.hooks)
        hook.train_begin(run.state)
    counts = [0, 0]
    for run.state.update in range(600):
        changed = [hook.batch_begin(run.state, batch) is not None for hook in hooks]
        assert sum(changed) <= 1
        counts = [count + one for count, one in zip(counts, changed)]
    assert [count / 600 for count in counts] == pytest.approx([blended, cut], abs=0.06)


def test_where_one_of_the_two_is_off_the_other_has_all_batches(start):
    run = start("hooks={mixup: {off_last: 4it}, cutmix: {}}", "duration=400it")
    hooks, batch = run.hooks[:2], next(iter(run.state.data.train_batches(0)))
    for hook in hooks:
        hook.check(run.hooks)
        hook.train_begin(run.state)
    for run.state.update in range(396, 400):
        assert [hook.batch_begin(run.state, batch) is None for hook in hooks] == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "hooks.cutmix.alpha is 0; it must be above 0"),
        ({"probability": 2}, "hooks.cutmix.probability is 2; it must be a probability"),
        ({"switch": -1}, "hooks.cutmix.switch is -1; it must be a probability"),
    ],
)
def test_options_of_cutmix_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        make_hooks({"cutmix": options})


def weights_over_time(run):
    """Train; return the weights (as NumPy) before the first and after every update."""
    history = [run.weights()]

    class History(Hook):
        def batch_end(self, state):
            history.append(run.weights())

    run.train(History())
    return history


@pytest.mark.parametrize("warmup", [True, False])
def test_ema_against_numpy(start, warmup):
    run = start(f"hooks={{ema: {{decay: 0.3, warmup: {str(warmup).lower()}}}}}")
    history = weights_over_time(run)
    expected = {key: value.astype(np.float64) for key, value in history[0].items()}
    for number, weights in enumerate(history[1:], 1):
        decay = min(0.3, (1 + number) / (10 + number)) if warmup else 0.3
        for key in expected:
            expected[key] = decay * expected[key] + (1 - decay) * weights[key]
    average = run.hooks[0].average
    assert average.keys() == expected.keys()
    for key, value in expected.items():
        assert average[key].asnumpy() == pytest.approx(value, rel=1e-4, abs=1e-5), key


def test_ema_is_evaluated_beside_the_net_which_stays(start):
    run = start("hooks={ema: {decay: 0.3}}")
    history = weights_over_time(run)
    scores = dict(run.state.scores)
    for key, value in run.weights().items():
        assert (value == history[-1][key]).all(), "the net has its own weights again"
    own = run.evaluate()
    params = run.state.net._collect_params_with_prefix()
    for name, array in run.hooks[0].average.items():
        params[name].set_data(array)
    averaged = run.evaluate()
    assert scores == {**own, **{f"ema_{key}": value for key, value in averaged.items()}}
    assert averaged != own


def test_ema_gives_the_weights_back_when_its_evaluation_fails(start):
    run = start("hooks={ema: {decay: 0.3}}", "duration=1it")
    run.train()
    before = run.weights()

    def fail():
        raise KeyboardInterrupt

    run.state.evaluate = fail
    with pytest.raises(KeyboardInterrupt):
        run.hooks[0].eval_end(run.state)
    assert all((value == before[key]).all() for key, value in run.weights().items())


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("max_norm", [0.05, 1e6])
def test_clipping_against_numpy(start, accumulate, max_norm):
    run = start(f"accumulate={accumulate}", f"hooks={{clip_gradients: {{max_norm: {max_norm}}}}}", "duration=2it")

    class Gradients(Hook):
        def __init__(self):
            self.seen = []

        def before_update(self, state):
            params = [p for p in state.net.collect_params().values() if p.grad_req != "null"]
            self.seen.append([p.grad().asnumpy() * state.grad_scale for p in params])

    before, after = Gradients(), Gradients()
    loop.train(run.state, run.task, [before, *run.hooks[:-1], after, run.hooks.checkpoint])
    for raw, clipped in zip(before.seen, after.seen):
        norm = math.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in raw))
        assert 0.05 < norm < 1e6
        for g, c in zip(raw, clipped):
            assert c == pytest.approx(g * min(1, max_norm / norm), rel=1e-4, abs=1e-8)
        if max_norm > norm:
            assert all((g == c).all() for g, c in zip(raw, clipped))


def test_log_lines(start):
    run = start("data.source=synthetic:24", "duration=2ep", "evaluate_every=1ep", "hooks={ema: {}}").train()
    lines = run.log()
    assert [(line["kind"], line["update"]) for line in lines] == [("train", 3), ("eval", 3), ("train", 6), ("eval", 6)]
    assert [line["epoch"] for line in lines] == [1, 1, 2, 2]
    train, evaluation = lines[2:]
    assert train.keys() == {"update", "epoch", "kind", "loss", "lr", "images_per_s"}
    assert evaluation.keys() >= {"loss", "top1", "top5", "ema_loss", "ema_top1", "ema_top5"}
    assert train["lr"] == pytest.approx(0.05 * run.state.schedule(6), rel=1e-5)
    assert train["images_per_s"] > 0
    assert evaluation["top1"] == pytest.approx(run.state.scores["top1"], rel=1e-5)


def test_logged_loss_is_the_mean_since_the_last_line(start):
    run, losses = start("duration=6it"), []

    class Losses(Hook):
        def batch_end(self, state):
            losses.append(float(state.scalars["loss"].asscalar()))

    run.train(Losses())
    lines = [line for line in run.log() if line["kind"] == "train"]
    assert [line["update"] for line in lines] == [4, 6]
    expected = [np.mean(losses[:4]), np.mean(losses[4:])]
    assert [line["loss"] for line in lines] == pytest.approx(expected, rel=1e-5)


def test_replaced_images_have_a_line_for_every_epoch(start, tmp_path, caplog):
    for name in ("crane", "heron"):
        (tmp_path / "birds" / "train" / name).mkdir(parents=True)
        for seed in range(8):
            cv2.imwrite(str(tmp_path / "birds" / "train" / name / f"{seed}.png"), photo(seed))
    (tmp_path / "birds" / "train" / "crane" / "3.png").write_bytes(b"no image")
    # Five batches of an epoch make two updates, so that the loop leaves the last one.
    data = [f"data.source=folder:{tmp_path}/birds", "data.on_error=skip", "data.batch_size=3", "accumulate=2"]
    run = start(*data).train()
    assert [line["replaced_images"] for line in run.log() if line["kind"] == "data"] == [1, 1]
    said = [line for line in caplog.messages if "replaced by others" in line]
    assert [line[:8] for line in said] == ["epoch 0:", "epoch 1:"] and all("crane/3.png" in line for line in said)


def test_lines_of_repeated_updates_and_cut_lines_are_dropped(start):
    run = start().train()
    path = run.state.out / "log.jsonl"
    whole = path.read_text()
    path.write_text(json.dumps({"update": 1, "kind": "train"}) + "\n" + whole + '{"update": 4, "ki')
    again = start("duration=8it").resume()
    again.state.update = 3
    again.train()
    updates = [line["update"] for line in again.log()]
    assert updates == sorted(updates)
    assert updates[0] == 1
    assert updates.count(4) <= 2, "what the first run wrote for update 4 is gone"


def test_a_loss_that_is_not_finite_ends_the_run(start, tmp_path):
    run = start("optimizer.lr=1.0e+30", "schedule.name=constant", "duration=8it", "checkpoint_every=1it")
    with pytest.raises(NotFinite, match="is not finite .*the last good checkpoint is .*\nTry a lower optimizer.lr"):
        run.train()
    for folder in list_checkpoints(tmp_path / "run"):
        for name, array in mx.nd.load(str(folder / "net.params")).items():
            assert np.isfinite(array.asnumpy()).all(), f"{folder.name}: {name}"


def test_a_nan_of_the_input_is_noticed_before_it_is_saved(start, tmp_path):
    class Poison(Hook):
        def batch_begin(self, state, batch):
            if state.update == 2:
                batch.data[:] = np.nan

    run = start("duration=8it", "checkpoint_every=1it", "data.source=synthetic:64")
    with pytest.raises(NotFinite):
        loop.train(run.state, run.task, [Poison(), *run.hooks])
    assert [path.name for path in list_checkpoints(tmp_path / "run")][-1] == "update-00000002"
    again = start("duration=8it", "checkpoint_every=1it", "data.source=synthetic:64").resume()
    assert again.state.update == 2
    again.train()
    assert again.state.update == 8


def test_progress_without_a_terminal(start, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    start("duration=2ep", "evaluate_every=1ep").train()
    assert "epoch 2: training loss" in capsys.readouterr().out


def test_scalars_may_be_plain_numbers(start):
    class Plain(Classification):
        def step(self, state, batch, backward):
            super().step(state, batch, backward)
            return {"loss": 1.5, "extra": 3}

    run = start()
    run.task = Plain()
    run.train()
    assert {"loss": 1.5, "extra": 3.0}.items() <= run.log()[0].items()


def test_a_run_without_evaluation_images(start):
    run = start("hooks={ema: {}}")
    run.state.data.num_val = 0
    run.train()
    assert run.state.scores == {}
    assert [path.name for path in list_checkpoints(run.state.out)][-1] == "update-00000004"


def no_space(*args):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_on_a_full_disk_ends_the_run(start):
    """Its thread dies; a run that went on to hand it events would wait forever."""
    pytest.importorskip("tensorboardX")
    run = start("hooks={tensorboard: {every: 1}}", "duration=40it", "evaluate_every=40it")
    hook = run.hooks.recipe[0]
    begin = hook.train_begin

    def begin_on_a_full_disk(state):
        begin(state)
        hook._writer.file_writer.event_writer._ev_writer.write_event = no_space

    hook.train_begin = begin_on_a_full_disk
    with pytest.raises(OSError, match="tensorboardX cannot write to .*tensorboard any more. Is the disk full"):
        run.train()


def test_tensorboard_writes_events(start):
    pytest.importorskip("tensorboardX")
    run = start("hooks={tensorboard: {every: 1}}").train()
    assert list((run.state.out / "tensorboard").glob("events*"))


@pytest.mark.fast
def test_hooks_of_a_recipe_keep_their_order():
    hooks = make_hooks({"mixup": {}, "ema": {"decay": 0.5}, "clip_gradients": {"max_norm": 1.0}})
    assert [type(hook) for hook in hooks] == [HOOKS["mixup"], HOOKS["ema"], HOOKS["clip_gradients"]]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixupp": {}}, "unknown hook 'mixupp'; did you mean 'mixup'"),
        ({"mixup": {"alfa": 1}}, "hooks.mixup: .*alfa"),
        ({"clip_gradients": {}}, "hooks.clip_gradients: .*max_norm"),
        ({"mixup": {"alpha": 0}}, "hooks.mixup.alpha is 0"),
        ({"ema": {"decay": 1.0}}, "hooks.ema.decay is 1.0"),
        ({"clip_gradients": {"max_norm": -1}}, "hooks.clip_gradients.max_norm is -1"),
        ({"ema": 3}, "hooks.ema"),
    ],
)
def test_mistakes_in_hooks(settings, message):
    with pytest.raises(ValueError, match=message):
        make_hooks(settings)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clasification", {}, "unknown task 'clasification'; did you mean 'classification'"),
        ("classification", {"smoothing": 0.1}, "task_options of classification: .*smoothing"),
        ("classification", {"label_smoothing": 1}, "label_smoothing is 1"),
    ],
)
def test_mistakes_in_tasks(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_task(name, options)
