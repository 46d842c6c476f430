"""Maps from within networks: taps, what is known of them, and another output stride."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets.models import families, small_model

pytestmark = pytest.mark.fast


def images(side=64, n=1):
    return mx.nd.array(np.random.RandomState(0).standard_normal((n, 3, side, side)))


def random_net(name, **options):
    mx.random.seed(0)
    net = get_model(name, classes=3, **options)
    net.initialize()
    return net


def through(blocks, x):
    for block in blocks:
        x = block(x)
    return x


def expected_maps(net, x):
    """By hand: block 1 of stage 2, the map before the last stride, the last stage, the head."""
    maps = net.extract(x)
    stage = list(net.stages[2])
    last = net.stages[4][0]
    before = last.expand(maps[3]) if hasattr(last, "expand") else through(last.units[:-1], maps[3])
    return {"2.1": through(stage[:2], maps[1]), "expansion": before, "4.0.expansion": before, -1: maps[4], 3: maps[3]}


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenext_x0_35", "idle_mbv3"])
def test_taps_are_the_maps_of_stages_and_blocks(name):
    net, x = random_net(name), images()
    wanted = expected_maps(net, x)
    taps = ["expansion", 3, "2.1", -1, "4.0.expansion"]
    for hybridized in (False, True):
        net.hybridize(hybridized)
        found = net.extract(x, taps)
        assert all(np.array_equal(a.asnumpy(), wanted[tap].asnumpy()) for a, tap in zip(found, taps))
    assert [info.channels for info in net.tap_info(taps)] == [found.shape[1] for found in net.extract(x, taps)]
    assert [info.stride for info in net.tap_info(taps)] == [16, 16, 8, 32, 16]


def test_the_head_is_its_convolution():
    net, x = random_net("mobilenet_v3_small"), images()
    (found,) = net.extract(x, ["head"])
    assert np.array_equal(found.asnumpy(), net.features[-1][0](net.extract(x)[-1]).asnumpy())
    assert net.tap_info(["head"])[0] == (576, 32)


def test_nothing_behind_the_last_tap_is_computed():
    net = random_net("mobilenet_v3_small")
    arguments = net.extract(mx.sym.var("data"), ["3.0"])[0].list_arguments()
    later = {param.name for stage in net.stages[4:] for param in stage.collect_params().values()}
    later |= {param.name for param in net.stages[3][1].collect_params().values()}
    assert len(arguments) > 10 and later and not later & set(arguments)


@pytest.mark.parametrize("family", families())
def test_stages_of_every_family_are_known_before_the_first_forward(family):
    net = get_model(small_model(family), classes=3)
    info = net.tap_info(range(len(net.stage_info)))
    assert [(i.channels, i.stride) for i in info] == [(i.channels, i.stride) for i in net.stage_info]


@pytest.mark.parametrize("tap", [5, -6, "3.9", "1.0.depthwise", "stage1", "3.0.1", True, None, 1.5])
def test_unknown_taps_are_refused(tap):
    with pytest.raises(ValueError, match="mobilenet_v3_small has no tap"):
        get_model("mobilenet_v3_small").extract(images(), [tap])


def test_taps_that_a_network_lacks_are_refused():
    with pytest.raises(ValueError, match="no convolution behind its stages: take 4"):
        get_model("mobilenext_x0_35").tap_info(["head"])
    with pytest.raises(ValueError, match=r"has no expansion; take '4\.0'"):
        get_model("shufflenet_v2_x1_0").tap_info(["expansion"])
    with pytest.raises(ValueError, match="must be a list"):
        get_model("mobilenext_x0_35").tap_info("expansion")


@pytest.mark.parametrize(("name", "stride"), [("mobilenet_v2_x0_35", 16), ("mobilenext_x0_35", 8)])
def test_dilated_networks_give_the_same_maps_in_between(name, stride):
    net, x = random_net(name), images(96)
    net.hybridize()
    wanted = net.extract(x)[-1].asnumpy()
    before = net(x).shape
    net.set_output_stride(stride)
    found = net.extract(x)[-1].asnumpy()
    step = 32 // stride
    assert found.shape[2:] == (96 // stride, 96 // stride)
    assert np.abs(found[:, :, ::step, ::step] - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert net.stage_info[-1].stride == net.tap_info([-1])[0].stride == stride
    assert net(x).shape == before


def test_dilated_networks_train_alike_hybridized_or_not():
    """In float32 single gradients differ by rounding, as those of networks without dilation do."""
    losses, gradients = [], []
    for hybridized in (False, True):
        net, x = random_net("mobilenet_v2_x0_35", dropout=0.0), images(64, 2)
        net.set_output_stride(16)
        net.hybridize(hybridized)
        with autograd.record():
            loss = (net(x) ** 2).sum()
        loss.backward()
        losses.append(loss.asscalar())
        gradients.append(net.stages[4][1].depthwise.conv.weight.grad().asnumpy().ravel())
    assert abs(losses[0] - losses[1]) < 1e-3 * losses[0]
    assert np.corrcoef(*gradients)[0, 1] > 0.99


def test_output_strides_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match="choose one of 8, 16, 32"):
        get_model("mobilenet_v2_x0_35").set_output_stride(12)
    with pytest.raises(ValueError, match="cannot be dilated"):
        get_model("shufflenet_v2_x0_5").set_output_stride(16)
    with pytest.raises(ValueError, match="cannot be dilated"):
        get_model("condensenet_v2_a").set_output_stride(16)
    net = random_net("mobilenet_v2_x0_35")
    net.save_parameters(str(tmp_path / "net.params"))
    net.set_output_stride(16)
    with pytest.raises(ValueError, match="output_stride"):
        net.load_parameters(str(tmp_path / "net.params"))
