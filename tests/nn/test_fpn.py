"""FeaturePyramid against NumPy."""

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets.nn import FeaturePyramid

pytestmark = pytest.mark.fast


def nearest(x, side):
    """Enlarged to `side` pixels: every pixel is the nearest one of the smaller map."""
    places = np.arange(side) * x.shape[2] // side
    return x[:, :, places][:, :, :, places]


@pytest.mark.parametrize("sides", [(8, 4, 2), (13, 7, 4)])
def test_levels_are_sums_of_what_is_coarser(sides):
    widths, random = (6, 8, 10), np.random.RandomState(0)
    net = FeaturePyramid(widths, channels=4, extra_levels=2)
    net.initialize(mx.init.Normal(0.3))
    net.hybridize()
    maps = [random.standard_normal((2, width, side, side)).astype(np.float32) for width, side in zip(widths, sides)]
    levels = net(*map(mx.nd.array, maps))

    above, sums = None, []
    for lateral, x in list(zip(net.laterals, maps))[::-1]:
        y = np.einsum("oi,nihw->nohw", lateral.weight.data().asnumpy()[:, :, 0, 0], x)
        above = y if above is None else y + nearest(above, x.shape[2])
        sums.insert(0, above)
    for level, smooth, wanted in zip(levels, net.smooth, sums):
        assert np.abs(level.asnumpy() - smooth(mx.nd.array(wanted)).asnumpy()).max() < 1e-4
    sixth = net.extra[0](mx.nd.array(maps[-1]))
    assert np.abs(levels[3].asnumpy() - sixth.asnumpy()).max() < 1e-5
    assert np.abs(levels[4].asnumpy() - net.extra[1](mx.nd.relu(sixth)).asnumpy()).max() < 1e-5
    assert len(levels) == 5 and {level.shape[1] for level in levels} == {4}


def test_wrong_maps_are_refused():
    with pytest.raises(ValueError, match="at least one map"):
        FeaturePyramid([])
    net = FeaturePyramid([4, 4])
    net.initialize()
    with pytest.raises(ValueError, match="1 maps were given, but the pyramid was built for 2"):
        net(mx.nd.zeros((1, 4, 2, 2)))
