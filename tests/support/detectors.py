"""A small detector that is as if trained, and its exports."""

from __future__ import annotations

import mxnet as mx
import numpy as np

from gluon_effnets.deploy import initialize_like_trained
from gluon_effnets.detection import get_detector

SMALL = "ssdlite320_mobilenext_x0_35"
NAMES = ["ant", "bee", "cicada"]


def trained_detector(name=SMALL, classes=NAMES, **options):
    """A detector whose BN layers do something, as after training, and damp."""
    net = get_detector(name, classes, **options)
    initialize_like_trained(net)
    for key, param in net.collect_params().items():
        if key.endswith("gamma"):
            param.set_data(mx.nd.random.uniform(0.4, 0.8, param.shape))
        elif key.endswith("running_var"):
            param.set_data(mx.nd.random.uniform(0.5, 1.5, param.shape))
        elif key.endswith(("running_mean", "beta")):
            param.set_data(mx.nd.random.normal(0, 0.1, param.shape))
    return net


def inputs(number, seed=0):
    """Normalized images (number, 3, 320, 320)."""
    return np.random.RandomState(seed).standard_normal((number, 3, 320, 320)).astype(np.float32) * 50
