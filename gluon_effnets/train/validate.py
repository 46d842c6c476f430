"""Accuracy of given weights on the evaluation images of a data set."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Dict, Optional, Sequence

import mxnet as mx

from .. import _resources
from ..models import get_model
from .config import load_recipe
from .data import open_data, parse_source
from .dist import Workers
from .loop import evaluate
from .run import model_options
from .tasks import Classification

__all__ = ["validate"]


def validate(
    name: str, weights: str, source: str, overrides: Sequence[str] = (), options: Optional[Dict[str, Any]] = None
) -> Dict[str, float]:
    """Return top1, top5 (0..1) and loss of a `.params` file on the evaluation part of `source` (KIND[:PATH]).

    Image size and preprocessing are those of configs/<kind>.yaml if there is one, else 224 pixels with ImageNet's
    normalization; `overrides` ('data.image_size=32') change them, `options` go to the network.
    Raises ValueError if weights, network and data do not fit together, FileNotFoundError for missing files.
    """
    path = _resources.folder("configs") / f"{parse_source(source).kind}.yaml"
    given = [f"model={name}", f"data.source={source}", *overrides]
    recipe = load_recipe(path if path.is_file() else None, given)
    data = open_data(recipe.data, seed=0)
    options = {**model_options(recipe, data), **(options or {}), "classes": None}
    ctx = mx.gpu() if mx.context.num_gpus() else mx.cpu()
    net = get_model(name, pretrained=weights, ctx=ctx, **options)
    if net.num_classes != data.num_classes:
        raise ValueError(f"{weights} has {net.num_classes} classes, but {source} has {data.num_classes}")
    if not data.num_val:
        raise ValueError(f"{source} has no evaluation images")
    net.hybridize(static_alloc=True, static_shape=True)
    state = SimpleNamespace(net=net, data=data, workers=Workers(), ctx=ctx)
    return evaluate(state, Classification())
