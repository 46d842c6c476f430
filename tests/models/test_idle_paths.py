"""Paths of a one-shot network: each is the network of its placement, over the same weights."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets.complexity import count, count_params
from gluon_effnets.models.efficientnet import B0
from gluon_effnets.models.idle import BASELINES, compose, idle_net, replaceable
from gluon_effnets.models.idle_paths import IdlePaths
from gluon_effnets.models.mbnet import MBNet, row_params

pytestmark = pytest.mark.fast

SMALL = {"classes": 7, "multiplier": 0.25, "dropout": 0.0}


def images(*shape):
    return mx.nd.array(np.random.RandomState(0).standard_normal(shape))


def initialized(net):
    mx.random.seed(0)
    net.initialize()
    for key, param in net._collect_params_with_prefix().items():
        if key.endswith(("gamma", "beta", "bias")):
            param.set_data(1 + 0.1 * images(*param.shape))
    return net


def copy_of_placement(whole, placement, options):
    """The network of a placement with the slices of the whole one's weights, made without views."""
    small = initialized(idle_net("mobilenet_v3_small", placement, **options))
    theirs = whole._collect_params_with_prefix()
    for key, param in small._collect_params_with_prefix().items():
        stage, block = key.split(".")[1:3] if key.startswith("features") else (None, None)
        is_idle = ".active." in key
        source = theirs[key.replace(f"{block}.0.active.", f"{block}.", 1) if is_idle else key].data()
        if is_idle and source.shape != param.shape:
            side = placement[number_of(whole, int(stage), int(block))]
            for axis, (size, wanted) in enumerate(zip(source.shape, param.shape)):
                if size != wanted:
                    begin = 0 if side == "left" else size - wanted
                    source = source.slice_axis(axis=axis, begin=begin, end=begin + wanted)
        param.set_data(source)
    return small


def number_of(net, stage, block):
    before = sum(len(net.stages[s]) for s in range(stage))
    return before + block


@pytest.mark.parametrize("placement", [{}, {3: "left"}, {5: "right", 10: "left"}, {3: "right", 8: "right"}])
def test_a_path_is_the_network_of_its_placement(placement):
    whole = initialized(idle_net("mobilenet_v3_small", **SMALL))
    paths = IdlePaths(whole, ("left", "right"))
    path, x = paths.net_of(paths.path_of(placement)), images(4, 3, 64, 64)
    small = copy_of_placement(whole, placement, SMALL)
    for training in (False, True):
        with autograd.record(train_mode=training):
            expected, found = small(x), path(x)
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-5)


def test_idle_blocks_get_gradients_within_their_slices_alone():
    whole = initialized(idle_net("mobilenet_v3_small", **SMALL))
    paths = IdlePaths(whole, ("left", "right"))
    with autograd.record():
        loss = paths.net_of(paths.path_of({10: "right"}))(images(4, 3, 32, 32)).square().sum()
    loss.backward()
    project, expand = paths.blocks[9].project, paths.blocks[9].expand
    width = project.conv.weight.shape[0]
    for grad in (project.conv.weight.grad(), project.bn.gamma.grad(), expand.conv.weight.grad().swapaxes(0, 1)):
        assert not grad[: width // 2].asnumpy().any() and grad[width // 2 :].asnumpy().any()


def test_appended_blocks_can_be_left_out_and_get_no_gradient():
    whole = initialized(idle_net("mobilenet_v3_small", append={3: 2}, **SMALL))
    paths = IdlePaths(whole)
    assert paths.forms[3:5] == [("own", "out")] * 2 and paths.smallest()[3:5] == ("out", "out")
    shallow = ("own",) * 3 + ("out", "out") + ("own",) * 8
    small = initialized(idle_net("mobilenet_v3_small", **SMALL))
    x = images(2, 3, 32, 32)
    assert paths.net_of(shallow)(x).shape == small(x).shape
    assert {param.name for param in paths.unused(shallow)} == {
        param.name for block in paths.blocks[3:5] for param in block.collect_params().values()
    }


def test_squeeze_and_excitation_of_efficientnet_is_reduced_as_in_its_compositions():
    whole = initialized(get_model("efficientnet_b0", classes=5))
    paths = IdlePaths(whole)
    view = paths.net_of(paths.smallest())
    assert view(images(1, 3, 32, 32)).shape == (1, 5)
    small = idle_net("efficientnet_b0", "maximum", classes=5)
    reduced = [b.active.se.reduce.weight.shape[0] for run in _runs(small) for b in run]
    wanted = [b.active.se.reduce._kwargs["num_filter"] for b in _idle_views(view)]
    assert wanted == reduced


def _runs(net):
    return [run for stage in net.stages for run in stage if type(run).__name__ == "IdleRun"]


def _idle_views(view):
    found = []
    view.apply(lambda block: found.append(block) if type(block).__name__ == "_IdleView" else None)
    return found


def test_paths_are_drawn_uniformly_by_the_seed_alone():
    paths = IdlePaths(initialized(idle_net("mobilenet_v3_small", append={3: 2}, **SMALL)), ("left", "right"))
    drawn = [paths.sample(np.random.RandomState([1, update])) for update in range(600)]
    assert drawn[7] == paths.sample(np.random.RandomState([1, 7]))
    for place, forms in enumerate(paths.forms):
        shares = {form: sum(path[place] == form for path in drawn) / len(drawn) for form in forms}
        expected = {"own": 2 / 3, "out": 1 / 3} if place == 3 else {"own": 1 / 3, "out": 2 / 3}
        for form, share in shares.items():
            assert abs(share - (expected[form] if "out" in forms else 1 / len(forms))) < 0.08, (place, form)


@pytest.mark.parametrize("baseline", sorted(BASELINES))
def test_the_table_of_parameters_is_that_of_whole_networks(baseline):
    arch = BASELINES[baseline]
    numbers = replaceable(arch)
    none = count_params(idle_net(baseline))
    placement = {numbers[0]: "left", numbers[-1]: "right", numbers[2]: "left"}
    placed = compose(arch, placement)
    difference = sum(
        row_params(width, new) - row_params(width, old)
        for width, old, new in zip(arch.inputs(), arch.rows, placed.rows)
    )
    assert count_params(MBNet(placed)) == none + difference


def test_sides_of_a_composition():
    arch = compose(B0, {3: "right", 5: 2})
    assert [row.idle for row in arch.rows[2:6]] == ["right", None, "left", "left"]
    assert count(MBNet(arch), 64).madds > 0


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="no blocks that IdleBlocks can replace"):
        IdlePaths(get_model("mobilenext_x1_0"))
