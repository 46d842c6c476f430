"""The loop: the order of its moments, accumulation, and that it knows no method."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets.train import loop
from gluon_effnets.train.hooks import Hook
from gluon_effnets.train.losses import soft_cross_entropy, soft_targets
from gluon_effnets.train.tasks import Classification

METHODS = ("mixup", "ema", "sparsify", "slimmable", "gate", "distill", "lbsgd")
NO_MOMENTS = {"check", "state_dict", "load_state_dict"}
MOMENTS = [name for name in vars(Hook) if not name.startswith("_") and name not in NO_MOMENTS]
PLAIN = ("model=plain_tiny", "optimizer={name: sgd, lr: 0.5}", "data.source=synthetic:64")


class Recorder(Hook):
    """Notes each moment under one letter per line of the loop's doc-string."""

    def __init__(self):
        self.moments = []


def _note(name):
    def note(self, *args):
        self.moments.append(name)

    return note


for _name in MOMENTS:
    setattr(Recorder, _name, _note(_name))


class Noted(Classification):
    """Classification that notes its calls among the moments."""

    def __init__(self, recorder):
        super().__init__()
        self.recorder = recorder

    def step(self, state, batch, backward):
        self.recorder.moments.append("step")
        return super().step(state, batch, backward)

    def evaluate(self, state, batch):
        self.recorder.moments.append("evaluate")
        return super().evaluate(state, batch)


def test_order_of_the_moments(start):
    run, recorder = start("accumulate=2", "duration=2ep", "evaluate_every=3it"), Recorder()
    run.task = Noted(recorder)
    run.train(recorder)
    update = [*["batch_begin", "step"] * 2, "before_update", "batch_end"]
    evaluation = ["eval_begin", "evaluate", "eval_end"]
    first_epoch = ["epoch_begin", *update, *update, "epoch_end"]
    second_epoch = ["epoch_begin", *update, *evaluation, *update, *evaluation, "epoch_end"]
    assert recorder.moments == ["train_begin", *first_epoch, *second_epoch, "train_end"]


def test_a_run_that_ends_within_an_epoch_is_evaluated(start):
    run, recorder = start("duration=3it"), Recorder()
    run.train(recorder)
    assert recorder.moments[-4:] == ["eval_begin", "eval_end", "epoch_end", "train_end"]
    assert recorder.moments.count("batch_end") == run.state.update == 3


def test_hooks_are_called_in_their_order(start):
    run, seen = start("duration=1it"), []

    class Named(Hook):
        def __init__(self, name):
            self.name = name

        def before_update(self, state):
            seen.append(self.name)

    loop.train(run.state, run.task, [Named("a"), Named("b"), Named("c")])
    assert seen == ["a", "b", "c"]


def test_batch_begin_may_replace_the_batch(start):
    run, seen = start("duration=1it"), []

    class Zero(Hook):
        def batch_begin(self, state, batch):
            return dataclasses.replace(batch, data=batch.data * 0)

    class See(Hook):
        def batch_begin(self, state, batch):
            seen.append(abs(batch.data).max().asscalar())

    class SeeInStep(Classification):
        def step(self, state, batch, backward):
            seen.append(abs(batch.data).max().asscalar())
            return super().step(state, batch, backward)

    loop.train(run.state, SeeInStep(), [See(), Zero(), See()])
    assert seen[0] > 0
    assert seen[1:] == [0, 0]


def test_rate_and_epoch_of_every_update(start):
    run, seen = start("duration=2ep", "data.source=synthetic:24"), []

    class Rates(Hook):
        def before_update(self, state):
            seen.append((state.epoch, state.trainer.learning_rate))

    run.train(Rates())
    expected = [(n // 3, 0.05 * run.state.schedule(n + 1)) for n in range(6)]
    assert [epoch for epoch, _ in seen] == [epoch for epoch, _ in expected]
    assert [rate for _, rate in seen] == pytest.approx([rate for _, rate in expected])
    assert len({rate for _, rate in seen}) > 3


@pytest.mark.parametrize("model", ["idle_tiny", "elsewhere.nets:small_net"])
def test_hooks_find_the_running_statistics_of_the_update(start, model):
    class Statistics(Hook):
        def __init__(self):
            self.seen = []

        def batch_end(self, state):
            params = state.net._collect_params_with_prefix()
            self.seen.append([param.data().copy() for name, param in params.items() if "running_" in name])

    def statistics(number):
        run, hook = start(f"model={model}", "duration=8it", out=str(number)), Statistics()
        run.state.net.trains_compiled = False
        run.train(hook)
        return [array.asnumpy() for arrays in hook.seen for array in arrays]

    first, *others = [statistics(number) for number in range(4)]
    assert first
    for other in others:
        assert all((a == b).all() for a, b in zip(first, other))


def largest_difference(first, second):
    ours, theirs = first.weights(), second.weights()
    return max(np.abs(ours[key] - theirs[key]).max() for key in ours)


@pytest.mark.parametrize("optimizer", ["sgd", "nag", "adam"])
def test_accumulated_batches_are_one_large_batch(start, optimizer):
    plain = [*PLAIN, f"optimizer.name={optimizer}", "optimizer.lr=0.05"]
    large = start(*plain, "data.batch_size=16", out="large").train()
    parts = start(*plain, "data.batch_size=4", "accumulate=4", out="parts").train()
    small = start(*plain, "data.batch_size=4", out="small").train()
    assert largest_difference(large, parts) < 1e-6
    assert largest_difference(large, small) > 1e-3
    loss = [run.log()[0]["loss"] for run in (large, parts)]
    assert loss[0] == pytest.approx(loss[1], rel=1e-5)


class TwoBackwards(Classification):
    """The loss in two halves, each back-propagated for itself."""

    backwards = 2

    def step(self, state, batch, backward):
        for _ in range(2):
            target = soft_targets(batch.label, state.net.num_classes)
            with autograd.record():
                loss = soft_cross_entropy(state.net(batch.data), target) / 2
            backward(loss)
        return {"loss": loss * 2}


def test_several_backward_passes_add_up(start):
    once = start(*PLAIN, out="once").train()
    twice = start(*PLAIN, out="twice")
    twice.task = TwoBackwards()
    twice.train()
    assert largest_difference(once, twice) < 1e-6


def test_gradients_start_from_zero_in_every_update(start):
    run, gradients = start(*PLAIN, "optimizer.lr=0", "data.source=synthetic:16", "accumulate=2"), []

    class Gradients(Hook):
        def before_update(self, state):
            gradients.append(state.net.output.weight.grad().asnumpy() * state.grad_scale)

    run.train(Gradients())
    # An epoch is one update, and the weights stay: the gradient is the same in every one.
    assert len(gradients) == 4
    assert np.abs(gradients[0]).max() > 0
    for gradient in gradients[1:]:
        assert gradient == pytest.approx(gradients[0], abs=1e-6)


def test_grad_scale_gives_the_gradient_of_the_mean_loss(start):
    gradients = []

    class Gradients(Hook):
        def before_update(self, state):
            gradients.append(state.net.output.weight.grad().asnumpy() * state.grad_scale)

    start(*PLAIN, "data.batch_size=16", "duration=1it", out="large").train(Gradients())
    start(*PLAIN, "data.batch_size=4", "accumulate=4", "duration=1it", out="parts").train(Gradients())
    assert gradients[0] == pytest.approx(gradients[1], abs=1e-6)


def test_evaluation_counts_each_image_once(start):
    run = start("data.source=synthetic:52", "data.eval_batch_size=5")
    assert run.state.data.num_val == 13
    scores = run.evaluate()
    images, labels = run.state.data._val.images, run.state.data._val.labels
    settings = run.state.data.settings
    x = (images.astype(np.float32) - np.array(settings.mean)) / np.array(settings.std)
    logits = run.state.net(mx.nd.array(x.transpose(0, 3, 1, 2))).asnumpy()
    assert scores["top1"] == pytest.approx((logits.argmax(axis=1) == labels).mean())
    shifted = logits - logits.max(axis=1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(13), labels]
    assert scores["loss"] == pytest.approx(loss.mean(), rel=1e-5)


def test_evaluation_is_without_dropout_and_leaves_the_net_alone(start):
    run = start("model_options={dropout: 0.5, drop_connect: 0.5}")
    before = run.weights()
    assert run.evaluate() == run.evaluate()
    assert all((value == before[key]).all() for key, value in run.weights().items())


def test_evaluations_leave_training_as_it_was(start):
    often = start("evaluate_every=1it", "duration=8it", out="often").train()
    once = start("evaluate_every=8it", "duration=8it", out="once").train()
    assert all((often.weights()[key] == value).all() for key, value in once.weights().items())


def test_a_task_that_miscounts_is_noticed(start):
    run = start()
    run.task.evaluate = lambda state, batch: {"count": 1, "loss": 0.0}
    with pytest.raises(AssertionError, match="evaluated 1 of 8 images"):
        run.train()


def test_dropout_differs_between_updates_and_between_batches_of_one(start):
    overrides = ["model=idle_tiny", "model_options={dropout: 0.5}", "optimizer.lr=0", "data.source=synthetic:8"]
    run = start(*overrides, "data.batch_size=4", "accumulate=2", "task_options={}", "duration=2it")
    losses = []

    class SameBatch(Hook):
        first = None

        def batch_begin(self, state, batch):
            self.first = self.first or batch
            return self.first

    class Losses(Classification):
        def step(self, state, batch, backward):
            scalars = super().step(state, batch, backward)
            losses.append(scalars["loss"].asscalar())
            return scalars

    run.task = Losses()
    loop.train(run.state, run.task, [SameBatch()])
    assert len(set(losses)) == 4


def named_methods(text):
    return [name for name in METHODS if re.search(rf"(?<![a-z]){name}(?![a-z])", text.lower())]


def test_the_loop_names_no_method():
    assert named_methods(Path(loop.__file__).read_text()) == []


@pytest.mark.parametrize(
    "text", ["if ema:", "state.ema_decay", "make_mixup(", "class LBSGD", '"gate"', "SlimmableX slimmable"]
)
def test_a_named_method_would_be_found(text):
    assert named_methods(f"# remains, aggregate\n{text}\n")


def test_length_of_the_loop_and_of_the_entry():
    root = Path(loop.__file__).resolve().parents[2]
    assert len(Path(loop.__file__).read_text().splitlines()) <= 200
    assert len((root / "train_imagenet.py").read_text().splitlines()) <= 60
