"""A small detector that is as if trained, and its exports."""

from __future__ import annotations

import numpy as np
from networks import make_as_trained

from gluon_effnets.detection import get_detector

SMALL = "ssdlite320_mobilenext_x0_35"
NAMES = ["ant", "bee", "cicada"]


def trained_detector(name=SMALL, classes=NAMES, **options):
    net = get_detector(name, classes, **options)
    make_as_trained(net)
    return net


def inputs(number, seed=0):
    """Normalized images (number, 3, 320, 320)."""
    return np.random.RandomState(seed).standard_normal((number, 3, 320, 320)).astype(np.float32) * 50
