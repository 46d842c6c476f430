"""The network that a detector stands on: how it is built, and what a definition says of it."""

from __future__ import annotations

from typing import Any, Dict

import mxnet as mx

from ..models import Backbone, ClassificationNet, get_model

__all__ = ["Backbone", "base_definition", "base_network"]


def base_network(name: str, pretrained: Any, ctx: mx.Context, options: Dict[str, Any]) -> ClassificationNet:
    """Return the network that a detector stands on; its classes matter to the classifier alone, which is left out."""
    return get_model(name, pretrained, ctx=ctx, **options) if pretrained else get_model(name, classes=1, **options)


def base_definition(net: ClassificationNet) -> Dict[str, Any]:
    """Return what a detector's definition says of the network that it stands on.

    BN of that network is named at the top, where importers look for it; that of the other layers belongs to the form.
    """
    base = {**net.options, **net.definition()}
    known = {key: base.pop(key) for key in ("bn_epsilon", "padding") if key in base}
    return {"base": base, **known}
