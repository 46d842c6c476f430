"""Losses and scores against NumPy."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets.train.losses import soft_cross_entropy, soft_targets
from gluon_effnets.train.metrics import classification_sums, means

pytestmark = pytest.mark.fast


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def draw(rows=6, classes=8, seed=0):
    random = np.random.RandomState(seed)
    logits = random.standard_normal((rows, classes)).astype(np.float32) * 3
    return logits, random.randint(0, classes, rows).astype(np.int32)


def int_array(values):
    return mx.nd.array(values, dtype="int32")


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_targets_of_classes(smoothing):
    seen = soft_targets(int_array([2, 0]), 4, smoothing).asnumpy()
    rest, on = smoothing / 4, 1 - smoothing + smoothing / 4
    assert seen == pytest.approx(np.array([[rest, rest, on, rest], [on, rest, rest, rest]]))


def test_targets_of_mixed_classes():
    mixed = np.array([[0.7, 0.3, 0.0], [0.0, 0.25, 0.75]], np.float32)
    seen = soft_targets(mx.nd.array(mixed), 3, 0.3).asnumpy()
    assert seen == pytest.approx(mixed * 0.7 + 0.1)
    assert seen.sum(axis=1) == pytest.approx([1, 1])
    assert (soft_targets(mx.nd.array(mixed), 3).asnumpy() == mixed).all()


def test_cross_entropy_and_its_gradient():
    logits, label = draw()
    target = soft_targets(int_array(label), 8, 0.1)
    x = mx.nd.array(logits)
    x.attach_grad()
    with autograd.record():
        loss = soft_cross_entropy(x, target)
    loss.backward()
    target = target.asnumpy()
    assert loss.shape == (1,)
    assert loss.asscalar() == pytest.approx(-(target * log_softmax(logits)).sum(axis=1).mean(), rel=1e-6)
    expected = (np.exp(log_softmax(logits)) - target) / len(logits)
    assert x.grad.asnumpy() == pytest.approx(expected, abs=1e-6)


def test_cross_entropy_of_huge_logits_is_finite():
    loss = soft_cross_entropy(mx.nd.array([[1e4, -1e4]]), mx.nd.array([[0.5, 0.5]]))
    assert loss.asscalar() == pytest.approx(1e4)


def test_sums_against_numpy():
    logits, label = draw(rows=200, classes=20, seed=1)
    seen = classification_sums(mx.nd.array(logits), int_array(label), 200)
    place = np.array([np.argsort(-row).tolist().index(k) for row, k in zip(logits, label)])
    assert seen["count"] == 200
    assert seen["top1"] == (place == 0).sum() > 0
    assert seen["top5"] == (place < 5).sum() > seen["top1"]
    assert seen["loss"] == pytest.approx(-log_softmax(logits)[np.arange(200), label].sum(), rel=1e-5)


def test_rows_that_only_fill_the_batch_do_not_count():
    logits, label = draw(rows=5, seed=2)
    whole = classification_sums(mx.nd.array(logits[:3]), int_array(label[:3]), 3)
    logits[3:] = np.nan
    assert classification_sums(mx.nd.array(logits), int_array(label), 3) == whole


@pytest.mark.parametrize(
    ("logits", "top1", "top5"),
    [
        ([0.0] * 10, 0, 0),
        ([1, 1, 0, 0, 0, 0, 0, 0, 0, 0], 0, 1),
        ([2, 1, 0, 0, 0, 0, 0, 0, 0, 0], 1, 1),
        ([1, 1, 1, 1, 1, 0, 0, 0, 0, 0], 0, 1),
        ([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], 0, 0),
        ([np.nan] * 10, 0, 0),
    ],
)
def test_ties_and_nan_are_no_hits(logits, top1, top5):
    sums = classification_sums(mx.nd.array([logits]), int_array([0]), 1)
    assert (sums["top1"], sums["top5"]) == (top1, top5)


def test_fewer_than_five_classes():
    logits, label = draw(rows=7, classes=3)
    assert classification_sums(mx.nd.array(logits), int_array(label), 7)["top5"] == 7


def test_half_precision_logits_are_scored_in_float32():
    logits, label = draw(rows=50, seed=3)
    half = mx.nd.array(logits.astype(np.float16), dtype="float16")
    seen = classification_sums(half, int_array(label), 50)
    expected = -log_softmax(logits.astype(np.float16).astype(np.float32))[np.arange(50), label].sum()
    assert seen["loss"] == pytest.approx(expected, rel=1e-5)


def test_means():
    assert means({"count": 4, "loss": 2.0, "top1": 3.0}) == {"loss": 0.5, "top1": 0.75}
