"""SFR-ShuffleNetV2: ShuffleNetV2 plus an update of what passes; its costs, conversion and refusals."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model, model_info
from gluon_effnets.complexity import count
from gluon_effnets.models.condense import condense
from gluon_effnets.models.sfr_shufflenetv2 import sfr_shufflenet_v2
from gluon_effnets.nn import masked_layers

pytestmark = pytest.mark.fast


def initialized(name, **options):
    mx.random.seed(0)
    net = get_model(name, classes=10, **options)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    return net


def images():
    return mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, 64, 64)))


# MAdds and parameters when condensed, for G = S of every number that divides the halves (arithmetic on the base nets).
@pytest.mark.parametrize(
    "scale, factor, madds, params",
    [
        (0.5, 2, "43.41", "1.390"),
        (0.5, 4, "41.94", None),
        (0.5, 8, "41.21", None),
        (1.0, 2, "162.96", "2.415"),
        (1.0, 29, "147.00", None),
        (1.5, 2, "338.43", "3.818"),
        (1.5, 8, "308.84", None),
    ],
)
def test_costs(scale, factor, madds, params):
    seen = count(sfr_shufflenet_v2(scale, factor, factor, condensed=True))
    assert f"{seen.madds / 1e6:.2f}" == madds
    assert params is None or f"{seen.params / 1e6:.3f}" == params


@pytest.mark.parametrize("definition", ["megvii", "torchvision"])
def test_without_its_weights_the_reactivation_leaves_shufflenet_v2(definition):
    net = initialized("sfr_shufflenet_v2_x0_5", definition=definition)
    base = get_model("shufflenet_v2_x0_5", classes=10, definition=definition)
    base.initialize()
    own = net._collect_params_with_prefix()
    for key, param in base._collect_params_with_prefix().items():
        param.set_data(own.pop(key).data())
    assert own and all(".update." in key for key in own)
    x = images()
    assert np.abs(net(x).asnumpy() - base(x).asnumpy()).max() > 1e-3
    for layer in masked_layers(net).values():
        layer.weight.set_data(mx.nd.zeros(layer.weight.shape))
    np.testing.assert_allclose(net(x).asnumpy(), base(x).asnumpy(), rtol=1e-5, atol=1e-6)


def test_only_units_without_a_stride_reactivate_what_passes():
    net = initialized("sfr_shufflenet_v2_x0_5")
    assert len(masked_layers(net)) == 13  # of 16 units
    unit = net.stages[2][1]
    channels = unit.half * 2
    x = mx.nd.array(np.random.RandomState(1).standard_normal((1, channels, 4, 4)))
    even, branch = x[:, 0::2], unit.branch(x[:, 1::2])
    update = unit.update
    activated = mx.nd.relu(update.bn(branch))
    reactivated = even + mx.nd.Convolution(
        activated, update.weight.data(), kernel=(1, 1), num_filter=unit.half, no_bias=True
    )
    expected = mx.nd.concat(reactivated, branch, dim=1)
    np.testing.assert_allclose(unit(x).asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-5)


def test_gradients_reach_all_and_conversion_keeps_the_logits():
    net = initialized("sfr_shufflenet_v2_x0_5")
    net.hybridize()
    with autograd.record():
        loss = net(images()).square().sum()
    loss.backward()
    assert all(np.abs(layer.weight.grad().asnumpy()).max() > 0 for layer in masked_layers(net).values())
    with pytest.raises(ValueError, match="not finished"):
        condense(net)
    for layer in masked_layers(net).values():
        layer.drop()
        assert layer.finished
    condensed, x = condense(net), images()
    condensed.hybridize()
    expected = net(x).asnumpy()
    assert np.abs(condensed(x).asnumpy() - expected).max() < 1e-5 * expected.std()
    assert condensed.identity["condensed"] and not net.identity["condensed"]


def test_refusals_and_labels():
    with pytest.raises(ValueError, match="58 inputs: not a multiple of 4"):
        get_model("sfr_shufflenet_v2_x1_0", groups=4)
    assert "no official code" in model_info("sfr_shufflenet_v2_x1_0").reconstruction
