"""Distillation: the loss against NumPy, the teacher's images and classes, and its part in a resume."""

from __future__ import annotations

import dataclasses
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from runs import assert_resumes, save_teacher

from gluon_effnets.deploy import export
from gluon_effnets.models import get_model
from gluon_effnets.models.preprocessing import RAW_BGR, TORCH_IMAGENET, Preprocessing
from gluon_effnets.train.tasks import make_task
from gluon_effnets.train.tasks.distill import change_normalization


def options(path, **more):
    return f"task_options={json.dumps({'teacher': 'plain_tiny', 'weights': str(path), **more})}"


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def batch_of(run):
    return next(iter(run.state.data.train_batches(0)))


def losses(run, batch=None):
    batch = batch or batch_of(run)
    scalars = run.task.step(run.state, batch, lambda loss: loss.backward())
    return {key: float(value.asscalar()) for key, value in scalars.items()}


def test_the_loss_is_the_formula(start, tmp_path):
    path = save_teacher(tmp_path / "t.params")
    run = start("task=distill", options(path, temperature=3.0, alpha=0.7, label_smoothing=0.1), "model=plain_tiny")
    batch, teacher = batch_of(run), get_model("plain_tiny", pretrained=path)
    own, told = (log_softmax(net(batch.data).asnumpy() / t) for net, t in ((run.state.net, 1), (teacher, 3)))
    soft = log_softmax(run.state.net(batch.data).asnumpy() / 3)
    labels = 0.9 * np.eye(10)[batch.label.asnumpy()] + 0.01
    of_labels, of_teacher = -(labels * own).sum(1).mean(), -(np.exp(told) * soft).sum(1).mean()
    found = losses(run, batch)
    np.testing.assert_allclose(found["loss_labels"], of_labels, rtol=1e-5)
    np.testing.assert_allclose(found["loss_teacher"], of_teacher, rtol=1e-5)
    np.testing.assert_allclose(found["loss"], 0.3 * of_labels + 0.7 * 9 * of_teacher, rtol=1e-5)


def test_a_student_of_itself_has_no_gradient_but_that_of_the_labels(start, tmp_path):
    path = save_teacher(tmp_path / "t.params")
    run = start("task=distill", options(path, alpha=1.0, temperature=2.0), "model=plain_tiny", f"pretrained={path}")
    losses(run)
    assert max(abs(p.grad().asnumpy()).max() for p in run.state.net.collect_params().values()) < 1e-6


ORDERS = [Preprocessing(), TORCH_IMAGENET, RAW_BGR, RAW_BGR._replace(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))]


@pytest.mark.parametrize("after", ORDERS)
@pytest.mark.parametrize("before", ORDERS)
def test_images_become_those_of_another_normalization(before, after):
    pixels = np.random.RandomState(0).uniform(0, 255, (2, 5, 6, 3)).astype("float32")

    def normalized(preprocessing):
        step = -1 if preprocessing.channel_order == "bgr" else 1
        values = (pixels - preprocessing.mean) / preprocessing.std
        return np.moveaxis(values[..., ::step], -1, 1)

    found = change_normalization(before, after, mx.cpu())(mx.nd.array(normalized(before)))
    np.testing.assert_allclose(found.asnumpy(), normalized(after), rtol=2e-4, atol=2e-4)


def test_the_teacher_is_shown_images_as_its_weights_want_them(start, tmp_path):
    path = tmp_path / "t.params"
    net = get_model("plain_tiny", pretrained=save_teacher(path))
    net.preprocessing = RAW_BGR
    net.save_parameters(str(path))
    run = start("task=distill", options(path), "model=plain_tiny")
    batch, seen = batch_of(run), []
    run.task._ask = lambda images: seen.append(images) or net(images)
    losses(run, batch)
    data = run.state.data.preprocessing
    pixels = batch.data.asnumpy() * np.reshape(data.std, (3, 1, 1)) + np.reshape(data.mean, (3, 1, 1))
    np.testing.assert_allclose(seen[0].asnumpy(), pixels[:, ::-1], atol=1e-3)


def test_an_exported_teacher_says_what_its_network_says(start, tmp_path):
    net = get_model("plain_tiny", pretrained=save_teacher(tmp_path / "t.params"))
    export(net, tmp_path / "teacher", image_size=16)
    of_network = losses(start("task=distill", options(tmp_path / "t.params"), "model=plain_tiny"))
    exported = f"task_options={json.dumps({'exported': str(tmp_path / 'teacher.json')})}"
    of_file = losses(start("task=distill", exported, "model=plain_tiny"))
    assert of_file == pytest.approx(of_network, rel=1e-4)


def test_the_teacher_may_see_larger_images(start, tmp_path):
    run = start("task=distill", options(save_teacher(tmp_path / "t.params"), image_size=24), "model=plain_tiny")
    seen, ask = [], run.task._ask
    run.task._ask = lambda images: seen.append(images.shape) or ask(images)
    losses(run)
    assert seen == [(8, 3, 24, 24)]


def named(path, names):
    net = get_model("plain_tiny", pretrained=str(path))
    net.classes = names
    net.save_parameters(str(path))


NAMES = [str(digit) for digit in range(10)]
DIGITS = ("data.source=digits", "model=plain_tiny", "task=distill")


def test_classes_are_those_of_the_data_by_name(start, tmp_path):
    path = tmp_path / "t.params"
    save_teacher(path, in_channels=1)
    named(path, NAMES)
    same = losses(start(*DIGITS, options(path)))
    net = get_model("plain_tiny", pretrained=str(path))
    net.reorder_classes(NAMES[::-1])
    net.save_parameters(str(path))
    assert losses(start(*DIGITS, options(path))) == pytest.approx(same)


def test_a_teacher_of_other_classes_is_refused(start, tmp_path):
    path = tmp_path / "t.params"
    save_teacher(path, in_channels=1)
    named(path, [*NAMES[:9], "ten"])
    with pytest.raises(ValueError, match="knows other classes than digits: 'ten' is gone, '9' is new; fine-tune it"):
        start(*DIGITS, options(path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "name one teacher: {teacher: NAME, weights"),
        ({"teacher": "plain_tiny"}, "name one teacher"),
        ({"exported": "a.json", "weights": "b"}, "name one teacher"),
        ({"exported": "a.json", "temperature": 0}, "task_options.temperature is 0; it must be above 0"),
        ({"exported": "a.json", "alpha": 0}, "task_options.alpha is 0; it must be above 0 and at most 1"),
        ({"exported": "a.json", "image_size": 0}, "task_options.image_size is 0"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        make_task("distill", values)


def test_files_that_are_not_there(start, tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        start("task=distill", options(tmp_path / "none.params"))
    with pytest.raises(FileNotFoundError, match="no exported network at"):
        start("task=distill", f"task_options={{exported: {tmp_path}/none.json}}")


@pytest.mark.parametrize("hooks", ["{mixup: {alpha: 1.0}}", "{ema: {}}"])
def test_a_run_with_other_hooks_resumes(start, tmp_path, hooks):
    assert_resumes(start, "task=distill", options(save_teacher(tmp_path / "t.params")), f"hooks={hooks}")


def test_another_teacher_is_refused_on_resume(start, tmp_path):
    path = tmp_path / "t.params"
    overrides = ["task=distill", options(save_teacher(path))]
    start(*overrides).train_until_killed(3)
    save_teacher(path, scale=1.5)
    with pytest.raises(ValueError, match="weights of the teacher are others than those that update-00000002 .*--fresh"):
        start(*overrides).resume()


def test_the_teacher_stays_as_it_is_and_is_no_part_of_the_network(start, tmp_path):
    run = start("task=distill", options(save_teacher(tmp_path / "t.params")))
    names = set(run.weights())
    before = run.state.digests["teacher"]
    run.train()
    assert set(run.weights()) == names
    again = start("task=distill", options(tmp_path / "t.params"))
    assert again.state.digests == {"teacher": before}
    assert not autograd.is_recording()
    assert dataclasses.asdict(run.state.data.settings) == dataclasses.asdict(again.state.data.settings)
