"""Receptive fields: of both parts of the channels by arithmetic, against the reach of gradients, and as a picture."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets.__main__ import main
from gluon_effnets.evaluate.receptive_field import effective_field, effective_side, receptive_fields
from gluon_effnets.models.mbnet import Architecture, MBNet, Row

TWO = (Row(5, 16, 8, None, "hard_swish", 1, idle="left"), Row(5, 16, 8, None, "hard_swish", 1, idle="left"))


def network(rows, **options):
    arch = Architecture(8, tuple(rows), 16, None, "hard_swish", **options)
    net = MBNet(arch, classes=2, stem_stride=1, carry_idle=False)
    mx.random.seed(0)
    net.initialize(mx.init.Uniform(1))
    return net


def reach(net, channels):
    """Pixels, along a side, on which a channel behind the blocks depends."""
    x = mx.nd.random.uniform(0.5, 1, shape=(1, 3, 41, 41))
    x.attach_grad()
    with autograd.record(train_mode=False):
        total = net.extract(x, [-1])[0][:, channels, 20, 20].sum()
    total.backward(train_mode=False)
    return int((x.grad.abs().asnumpy()[0].sum(axis=0) > 0).any(axis=0).sum())


@pytest.mark.parametrize("sides", [("left", "left"), ("left", "right"), ("right", "right")])
@pytest.mark.parametrize("shuffle", [False, True])
def test_fields_are_those_that_gradients_reach(sides, shuffle):
    rows = [row._replace(idle=side) for row, side in zip(TWO, sides)]
    net = network(rows, shuffle=shuffle)
    field = receptive_fields(net)[-1]
    if not shuffle:
        assert (field.left, field.right) == (reach(net, slice(0, 4)), reach(net, slice(4, 8)))
    assert max(field.left, field.right) == reach(net, slice(0, 8))
    mixed = network([*rows, TWO[0]._replace(idle=None, kernel=3)], shuffle=shuffle)
    field = receptive_fields(mixed)[-1]
    assert field.left == field.right == reach(mixed, slice(0, 1))


@pytest.mark.fast
def test_stacking_on_one_side_sees_more_than_alternating():
    left, alternate = (receptive_fields(get_model("idle_mbv3", order=order)) for order in ("left", "alternate"))
    assert [row[:4] for row in left[:8]] == [row[:4] for row in alternate[:8]]  # no IdleBlock before block 8
    assert (left[-1].left, alternate[-1].left) == (851, 595)
    assert all(row.left == row.right for row in left if row.kind in ("stem", "MB"))
    assert max(row.right for row in left if row.kind == "left") < max(row.left for row in left if row.kind == "left")
    # The baseline by hand: stem 3, then kernels and strides of table 1 of MobileNetV3.
    rows = receptive_fields(get_model("mobilenet_v3_small"))
    assert [row.left for row in rows[:4]] == [3, 7, 15, 31]


@pytest.mark.fast
def test_the_effective_side_holds_95_percent():
    field = np.zeros((21, 21))
    field[10, 10], field[10, 15], field[0, 0] = 1, 0.5, 0.01
    assert effective_side(field) == 11
    net = get_model("idle_tiny")
    net.initialize()
    found = effective_field(net, 32, images=2)
    assert found.shape == (32, 32) and found.max() == 1 and 1 < effective_side(found) <= 63


def test_command_draws_and_tells(tmp_path, capsys):
    picture = tmp_path / "field.png"
    small = ["plot", "field", "idle_mbv3_small", str(picture), "--image-size", "64"]
    command = [*small, "--images", "1", "--format", "json"]
    assert main([*command, "--orders", "left", "right", "alternate"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["network"] for row in rows} == {f"idle_mbv3_small, {order}" for order in ("left", "right", "alternate")}
    assert picture.stat().st_size > 5000
    net = get_model("idle_mbv3_small", order="right")
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    assert main([*command, "--weights", str(tmp_path / "net.params"), "--orders", "right"]) == 0
    capsys.readouterr()
    for words, told in (
        (["plot", "field", "shufflenet_v2_x0_5", str(picture)], "has no MBBlocks"),
        (["plot", "field", "mobilenet_v3_small", str(picture), "--orders", "left"], "has no IdleBlocks"),
        ([*command, "--weights", str(tmp_path / "net.params"), "--orders", "left", "right"], "have one order"),
        ([*small, "--images", "0"], "0 images show nothing"),
    ):
        assert main(words) == 1
        assert told in capsys.readouterr().err
