"""Functions of the package, called with values of the wrong kind."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Callable, List

import numpy as np

from .. import damage
from ..sources import CLASSES, SIDE
from .room import PHOTO


class Values:
    """Draws a value of the wrong kind; the same for the same number."""

    def __init__(self, draw: Random):
        others = [
            object(),
            b"bytes",
            3 + 4j,
            int,
            {1, 2},
            lambda: 0,
            Path("nowhere"),
            np.zeros(3),
            np.float32("nan"),
            ...,
        ]
        self.one = draw.choice([*damage.ODD_VALUES, *others])


def _calls() -> List[Callable[[Any], Any]]:
    """Functions of the package, each with one argument of a stranger."""

    def models(x):
        from gluon_effnets import get_model

        return get_model

    def deploy():
        import gluon_effnets.deploy as deploy

        return deploy

    def net(**options):
        from gluon_effnets import get_model

        return get_model("idle_tiny", **options)

    def settings(**values):
        from gluon_effnets.train.data.settings import DataSettings

        return DataSettings(**{"source": "synthetic:8", **values})

    def runtime():
        import gluon_effnets.runtime as runtime

        return runtime

    def weights():
        import gluon_effnets.weights as weights

        return weights

    def classifier(*args, **options):
        from gluon_effnets.evaluate.predict import Classifier

        return Classifier(*args, **options)

    return [
        lambda x: models(x)(x),
        lambda x: net(pretrained=x),
        lambda x: net(classes=x),
        lambda x: net(in_channels=x),
        lambda x: net(bn_epsilon=x),
        lambda x: net(act=x),
        lambda x: net().reset_class(x),
        lambda x: models(x)("idle_tiny", **{str(x)[:50]: x}),
        lambda x: deploy().open_exported(x),
        lambda x: deploy().load_routed(x),
        lambda x: deploy().export(x, "new/net"),
        lambda x: deploy().export(net(pretrained="sealed.params", classes=None), "new/net", x),
        lambda x: deploy().export(net(pretrained="sealed.params", classes=None), "new/net", SIDE, format=x),
        lambda x: deploy().export(
            net(pretrained="sealed.params", classes=None), "new/net", SIDE, format="onnx", batch=x
        ),
        lambda x: deploy().export(net(pretrained="sealed.params", classes=None), "new/net", SIDE, int8=x),
        lambda x: weights().read_checkpoint(x),
        lambda x: weights().convert(x, "timm.safetensors", "new/net.params"),
        lambda x: weights().convert("idle_tiny", x, "new/net.params"),
        lambda x: settings(image_size=x),
        lambda x: settings(source=x),
        lambda x: settings(batch_size=x),
        lambda x: settings(augment=x),
        lambda x: runtime().load(x),
        lambda x: runtime().load("onnx/net.json", x),
        lambda x: runtime().load("onnx/net.json")(x),
        lambda x: runtime().load("onnx/net.json").top(PHOTO, x),
        lambda x: runtime().load("onnx/net.json").top(x),
        lambda x: classifier("idle_tiny", x),
        lambda x: classifier("idle_tiny", "sealed.params", x),
        lambda x: _card(classes=x),
        lambda x: _card(preprocessing=x),
        lambda x: _preprocessing(image_size=x),
        lambda x: _preprocessing(mean=x),
        lambda x: _preprocessing(crop=x),
        lambda x: _preprocessing(interpolation=x),
        lambda x: _count(x),
    ]


def _card(**values):
    from gluon_effnets import get_model

    net = get_model("idle_tiny", classes=len(CLASSES))
    for key, value in values.items():
        setattr(net, key, value)
    net.initialize()
    net.save_parameters("new.params")


def _preprocessing(**values):
    from gluon_effnets.models import Preprocessing

    return Preprocessing(**values)


def _count(size):
    from gluon_effnets import get_model
    from gluon_effnets.complexity import count

    return count(get_model("idle_tiny"), size)


CALLS = _calls()


def called_wrongly(call: Callable[[Any], Any], values: Values) -> None:
    """Call a function with such a value."""
    call(values.one)
