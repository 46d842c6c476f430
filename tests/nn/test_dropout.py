"""Dropout draws by MXNet's generator on every device, in every network."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model
from gluon_effnets.nn import Dropout

pytestmark = pytest.mark.fast

DROPS = {"dropout": 0.3}
NETWORKS = {
    "mobilenet_v3_small": DROPS,
    "efficientnet_b0": {**DROPS, "drop_connect": 0.2},
    "alexnet": DROPS,
    "condensenet_tiny": DROPS,
    "ds_mobilenet_tiny": DROPS,
    "shufflenet_v1_g3_x0_5": DROPS,
    "mobilenext_x0_35": DROPS,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_drops_by_cudnn(name):
    """cuDNN would draw from a seed of its own, which a resumed run cannot set."""
    graph = json.loads(get_model(name, **NETWORKS[name])(mx.sym.var("data")).tojson())
    drops = [node for node in graph["nodes"] if node["op"] == "Dropout"]
    assert drops and all(node["attrs"]["cudnn_off"] == "True" for node in drops)


def test_masks_are_those_of_the_seed():
    drop, x = Dropout(0.5), mx.nd.ones((4, 50))

    def drawn(seed):
        mx.random.seed(seed)
        with mx.autograd.train_mode():
            return drop(x).asnumpy()

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert (drawn(1) != drawn(2)).any() and set(np.unique(drawn(1))) == {0, 2}
    np.testing.assert_array_equal(drop(x).asnumpy(), x.asnumpy())
