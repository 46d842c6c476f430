"""Networks as tests want them: one of every kind, with weights of He, or as if they were trained."""

from __future__ import annotations

import mxnet as mx
import pytest

from gluon_effnets import get_model, list_models, model_info
from gluon_effnets.complexity import condensed_options
from gluon_effnets.deploy import initialize_like_trained
from gluon_effnets.models.condense import condense

# Families of many networks that differ in widths and depths: what takes seconds is done with one of every kind by
# default. A test checks that no other network has an operator that these lack.
KINDS = {
    "alexnet": ["alexnet_caffe"],  # alexnet_owt is a plain chain of the same, without groups and LRN
    "condensenet": ["condensenet_74_c8", "cifar_condensenet_50"],
    "condensenetv2": ["condensenet_v2_a", "cifar_condensenet_v2_110"],
    "darts": ["darts_tiny"],  # hidden; the others are of five times its cells
    "idle": [
        "idle_mbv3",
        "idle_mbv3_small",
        "idle_mbv3_small_maximum",
        "idle_mbv3_small_m11_i15",
        "idle_efficientnet_b0",
    ],
    "mobilenetv1": ["mobilenet_v1_x0_25"],
    "mobilenetv2": ["mobilenet_v2_x0_35", "mobilenet_v2_x1_0"],
    "mobilenext": [
        "mobilenet_v2_extra_dw",
        "mobilenext_fig4a",
        "mobilenext_fig4b",
        "mobilenext_fig4c",
        "mobilenext_l",
        "mobilenext_s",
        "mobilenext_x0_35",
        "mobilenext_x1_0",
    ],
    "sfr_shufflenetv2": ["sfr_shufflenet_v2_x0_5"],
    "shufflenetv1": [
        "shufflenet_v1_g1_x0_25",
        "shufflenet_v1_g3_x1_0",
        "shufflenet_v1_g8_x0_5",
        "shufflenet_v1_arch2_g8_x0_5",
        "shufflenet_v1_shallow_g3_x0_5",
        "shufflenet_v1_se_g3_x2_0",
    ],
    "shufflenetv2": ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0"],
    "structure_units": ["vgg_like_38m", "resnet_like_38m", "resnext_like_13m"],
}
# Of the families that are not above, every network.
EVERY_KIND = sorted(
    {name for kinds in KINDS.values() for name in kinds}
    | {name for name in list_models() if model_info(name).family not in KINDS}
)
EVERY_NETWORK = [
    pytest.param(name, marks=() if name in EVERY_KIND else pytest.mark.exhaustive) for name in list_models()
]
# Keeps the signal's size through an untrained network, whose BN layers do nothing yet.
HE = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)


def initialized(name, init=HE, **options):
    mx.random.seed(0)
    net = get_model(name, **options)
    net.initialize(init)
    return net


def make_as_trained(net):
    """Give a network weights with which its BN layers do something, and damp: random networks blow rounding up."""
    initialize_like_trained(net)
    for key, param in net.collect_params().items():
        if key.endswith("gamma"):
            param.set_data(mx.nd.random.uniform(0.4, 0.8, param.shape))
        elif key.endswith("running_var"):
            param.set_data(mx.nd.random.uniform(0.5, 1.5, param.shape))
        elif key.endswith(("running_mean", "beta")):
            param.set_data(mx.nd.random.normal(0, 0.1, param.shape))


def trained(name, classes=7, **options):
    """A network that is as if trained."""
    net = get_model(name, classes=classes, **options)
    make_as_trained(net)
    return condense(net) if condensed_options(net) else net
