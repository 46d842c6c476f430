"""IdleBlock and hybrid composition: what the paper promises of them."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets.benchmarks.idle_variants import VARIANTS
from gluon_effnets.models.efficientnet import B0
from gluon_effnets.models.idle import compose, idle_net, replaceable
from gluon_effnets.models.mbnet import table_madds
from gluon_effnets.models.mobilenetv3 import LARGE, SMALL
from gluon_effnets.nn import IdleBlock, IdleRun

pytestmark = pytest.mark.fast


def random(*shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal(shape))


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("side", ["left", "right"])
def test_idle_channels_pass_bit_identically(side, fraction, merged, hybridize):
    block = IdleBlock(24, 72, 5, side=side, idle_fraction=fraction, se=24, act="hard_swish", merged_concat=merged)
    block.initialize()
    if hybridize:
        block.hybridize()
    x = random(2, 24, 7, 7)
    y, idle = block(x), int(24 * fraction)
    kept = slice(24 - idle, 24) if side == "left" else slice(0, idle)
    np.testing.assert_array_equal(y.asnumpy()[:, kept], x.asnumpy()[:, kept])
    changed = np.delete(np.arange(24), np.arange(24)[kept])
    assert (y.asnumpy()[:, changed] != x.asnumpy()[:, changed]).any(axis=(0, 2, 3)).all()


def test_hidden_width_is_kept_and_the_residual_is_a_switch():
    with_shortcut, without = IdleBlock(16, 64), IdleBlock(16, 64, residual=False)
    assert with_shortcut.active.expand.conv.weight.shape == (64, 8, 1, 1)
    assert with_shortcut.active.project.conv.weight.shape == (8, 64, 1, 1)
    for block in (with_shortcut, without):
        block.initialize(mx.init.Zero())
    x = random(1, 16, 4, 4)
    np.testing.assert_array_equal(with_shortcut(x).asnumpy(), x.asnumpy())
    np.testing.assert_array_equal(without(x).asnumpy()[:, :8], np.zeros((1, 8, 4, 4)))


@pytest.mark.parametrize("channels", [16, 24, 40, 80, 112, 160])
def test_blocks_train_at_every_width_of_the_networks(channels):
    """The plain concatenation fails in oneDNN's backward pass unless the halves are multiples of 16."""
    block = IdleBlock(channels, 2 * channels)
    block.initialize()
    block.hybridize()
    x = random(2, channels, 6, 6)
    x.attach_grad()
    with autograd.record():
        (block(x) * random(2, channels, 6, 6, seed=1)).sum().backward()
    np.testing.assert_allclose(
        x.grad.asnumpy()[:, channels // 2 :], random(2, channels, 6, 6, seed=1).asnumpy()[:, channels // 2 :]
    )


def test_gradient_of_the_merged_join_is_that_of_the_definition():
    """Numerical derivative of the sum of squares with respect to the input, in float64."""
    block = IdleBlock(8, 16, act="hard_swish")
    block.initialize()
    block.cast("float64")
    x = random(1, 8, 3, 3).astype("float64")
    x.attach_grad()
    with autograd.record():
        (block(x) ** 2).sum().backward()
    for position in [(0, 1, 1, 1), (0, 6, 2, 0)]:
        values = []
        for step in (1e-6, -1e-6):
            moved = x.copy()
            moved[position] += step
            with autograd.train_mode():
                values.append((block(moved) ** 2).sum().asscalar())
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(x.grad[position].asscalar()), rel=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"order": "right"}, {"order": "alternate"}, {"idle_fraction": 0.25, "order": "alternate"}]
)
def test_all_forms_are_equal(options):
    mx.random.seed(0)
    nets = [get_model("idle_mbv3_small", classes=10, **variant, **options) for variant in VARIANTS.values()]
    nets[0].initialize()
    first, x = nets[0]._collect_params_with_prefix(), random(2, 3, 64, 64)
    expected = nets[0](x).asnumpy()
    for net in nets[1:]:
        net.initialize()
        params = net._collect_params_with_prefix()
        assert list(params) == list(first)
        for key, param in params.items():
            param.set_data(first[key].data())
        np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_replaceable_blocks():
    assert replaceable(LARGE) == [3, 5, 6, 8, 9, 10, 12, 14, 15]
    assert replaceable(LARGE, bare=True) == [1, 3, 5, 6, 8, 9, 10, 12, 14, 15]
    assert replaceable(SMALL) == [3, 5, 6, 8, 10, 11]
    assert replaceable(B0) == [3, 5, 7, 8, 10, 11, 13, 14, 15]


@pytest.mark.parametrize(
    ("name", "mb", "idle"),
    [
        ("idle_mbv3", 10, 10),
        ("idle_mbv3_maximum", 6, 9),
        ("idle_mbv3_m15_i20", 15, 20),
        ("idle_mbv3_small", 5, 12),
        ("idle_mbv3_small_maximum", 5, 6),
        ("idle_mbv3_small_m11_i15", 11, 15),
        ("idle_efficientnet_b0", 11, 10),
        ("idle_efficientnet_b0_maximum", 7, 9),
    ],
)
def test_numbers_of_blocks(name, mb, idle):
    rows = get_model(name).arch.rows
    assert [sum(not row.idle for row in rows), sum(bool(row.idle) for row in rows)] == [mb, idle]


@pytest.mark.parametrize("arch", [LARGE, SMALL, B0])
def test_adjacent_is_greedy_and_monotone(arch):
    lower, upper = table_madds(compose(arch, "maximum")), table_madds(arch)
    costs, swapped = [], []
    for share in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0):
        net = compose(arch, "adjacent", budget=lower + share * (upper - lower))
        costs.append(table_madds(net))
        swapped.append({n for n, row in enumerate(net.rows) if row.idle})
        assert costs[-1] <= lower + share * (upper - lower)
    assert costs[0] == upper and costs[-1] == lower
    assert costs == sorted(costs, reverse=True)
    assert all(few <= more for few, more in zip(swapped, swapped[1:]))
    with pytest.raises(ValueError, match="out of reach"):
        compose(arch, "adjacent", budget=lower - 1)


def test_orders():
    sides = [row.idle for row in compose(LARGE, "maximum", order="alternate").rows if row.idle]
    assert sides == ["left", "left", "right", "left", "right", "left", "left", "left", "right"]  # anew in each run
    assert {row.idle for row in compose(LARGE, "maximum", order="right").rows} == {None, "right"}


def test_mbblock_mixes_idle_and_active_channels_but_idle_blocks_alone_do_not():
    """Claim of the paper: the first 1x1 convolution after IdleBlocks makes a shuffle unnecessary."""
    from gluon_effnets.nn import MBBlock

    def reach(blocks):
        x = random(1, 16, 5, 5)
        x.attach_grad()
        touched = []
        for channel in range(16):
            with autograd.record(train_mode=False):  # batch statistics would tie all positions together
                y = x
                for block in blocks:
                    y = block(y)
                total = y[:, channel].sum()
            total.backward(train_mode=False)
            touched.append((x.grad.abs().sum(axis=(0, 2, 3)) > 0).asnumpy())
        return np.array(touched, bool)

    run = IdleRun([IdleBlock(16, 32, act="hard_swish"), IdleBlock(16, 32, act="hard_swish")])
    mixer = MBBlock(16, 32, 16, act="hard_swish")
    for block in (run, mixer):
        block.initialize()
    alone = reach([run])
    assert not alone[:8, 8:].any() and not alone[8:, :8].any()
    assert reach([run, mixer]).all()


def test_same_side_stacking_has_the_larger_receptive_field():
    """Two 5x5 blocks: 9x9 on the active half when stacked on one side, 5x5 on each half when they alternate."""

    def extent(sides):
        blocks = [IdleBlock(8, 16, 5, side=side, act="hard_swish") for side in sides]
        x = random(1, 8, 15, 15)
        x.attach_grad()
        for block in blocks:
            block.initialize()
        with autograd.record(train_mode=False):
            y = x
            for block in blocks:
                y = block(y)
            total = y[:, :, 7, 7].sum()
        total.backward(train_mode=False)
        seen = x.grad.abs().asnumpy()[0] > 0
        return [int(half.any(axis=(0, 1)).sum()) for half in (seen[:4], seen[4:])]

    assert extent(["left", "left"]) == [9, 1]
    assert extent(["left", "right"]) == [5, 5]


def test_shuffle_variant_costs_nothing_but_moves_channels():
    from gluon_effnets.complexity import count

    plain, shuffled = (idle_net("mobilenet_v3_small", "maximum", shuffle=s) for s in (False, True))
    assert count(plain)[:2] == count(shuffled)[:2]
    block = IdleBlock(8, 16, shuffle=True)
    block.initialize(mx.init.Zero())
    x = random(1, 8, 2, 2)
    np.testing.assert_array_equal(block(x).asnumpy(), x.asnumpy()[:, [0, 4, 1, 5, 2, 6, 3, 7]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"composition": "most"}, "composition is 'most'"),
        ({"composition": {2: 1}}, r"cannot place IdleBlocks at \[2\]"),
        ({"composition": {3: 0}}, "a count below 1"),
        ({"append": {99: 1}}, r"cannot place IdleBlocks at \[99\]"),
        ({"composition": "adjacent"}, "needs budget"),
        ({"composition": "maximum", "order": "up"}, "order is 'up'"),
        ({"composition": "maximum", "idle_fraction": 1.0}, "leaves 0 of"),
        ({"idle_se": "half"}, "idle_se is 'half'"),
    ],
)
def test_wrong_compositions(change, message):
    with pytest.raises(ValueError, match=message):
        idle_net("mobilenet_v3_large", **change)


def test_unknown_baseline_and_runs_that_cannot_be():
    with pytest.raises(ValueError, match="unknown baseline 'resnet'"):
        idle_net("resnet")
    with pytest.raises(ValueError, match="same channel"):
        IdleRun([IdleBlock(8, 8, idle_fraction=0.25), IdleBlock(8, 8, idle_fraction=0.5)])
    with pytest.raises(ValueError, match="carry=False"):
        IdleRun([IdleBlock(8, 8, shuffle=True)])


def test_the_shuffle_variant_trains_hybridized():
    """The narrow networks of the other tests do not show what oneDNN cannot do with some forms of a shuffle."""
    net = get_model("idle_mbv3", shuffle=True, classes=10)
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    with autograd.record():
        loss = net(mx.nd.random.normal(shape=(4, 3, 32, 32))).sum()
    loss.backward()
    assert np.isfinite(net.output.weight.grad().asnumpy()).all()
