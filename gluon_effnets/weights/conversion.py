"""convert: an official checkpoint, or one to condense, becomes a `.params` file of one of our models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from ..complexity import count_params
from ..files.write import make_folder
from ..models import ClassificationNet, get_model, params
from ..models.condense import condense as condense_net
from ..models.preprocessing import Preprocessing
from .files import read_checkpoint
from .load import find_source, load, official_state
from .mbnet import PLAIN

__all__ = ["Conversion", "convert"]


class Conversion(NamedTuple):
    """What `convert` did.

    Attributes:
        model: Name of the network.
        source: Name of the importer.
        num_parameters: Number of trained values.
        options: Those of the network; the file holds them, so `get_model` need not be told.
        path: Of the file.
        preprocessing: What the weights want done to images; the file holds it, too.
    """

    model: str
    source: str
    num_parameters: int
    options: Dict[str, Any]
    path: str
    preprocessing: Preprocessing = Preprocessing()

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        network = f"{self.model} with {options}" if options else self.model
        loading = f"get_model({self.model!r}, pretrained={self.path!r})"
        images = "" if self.preprocessing == Preprocessing() else f"\nImages for them: {self.preprocessing}."
        return (
            f"{self.source} weights, {self.num_parameters:,} parameters, for {network}. Load them:\n  {loading}{images}"
        )


def convert(
    model: str,
    checkpoint,
    out,
    *,
    ema: bool = False,
    source: Optional[str] = None,
    condense: bool = False,
    condense_classifier: bool = False,
    **options: Any,
) -> Conversion:
    """Read an official checkpoint, check that it fits a model, and write a `.params` file in one step.

    Args:
        model: A name of `list_models()`.
        checkpoint: See `read_checkpoint`. With `condense` also a `.params` file of this package.
        out: The file to write; its folder is made if need be, a file there is replaced.
        ema: See `read_checkpoint`.
        source: See `load_official`.
        condense: Write the network that the pruned one is at inference; see `models.condense`.
        condense_classifier: The same, with half of the classifier's inputs, as CondenseNet's authors do it.
        options: Of the model. `classes` is that of the checkpoint if it is not given.

    Raises:
        Exception: What `read_checkpoint`, `get_model`, `load_official` and `condense` raise; nothing is written then.

    Example:
        >>> print(convert("mobilenet_v3_large", "mobilenet_v3_large-8738ca79.pth", "v3.params"))
    """
    condense = condense or condense_classifier
    if condense and _is_ours(checkpoint):
        net, source = get_model(model, pretrained=checkpoint, **options), "gluon_effnets"
    else:
        net, source, options = _official(model, checkpoint, ema, source, options)
    if condense:
        net = condense_net(net, classifier=condense_classifier)
        options = {**options, "condensed": True, **({"condensed_classifier": True} if condense_classifier else {})}
    out = Path(out).expanduser()
    make_folder(out.parent)
    net.save_parameters(str(out))
    return Conversion(net.identity["model"], source, count_params(net), options, str(out), net.preprocessing)


def _is_ours(checkpoint) -> bool:
    path = Path(checkpoint).expanduser()
    return path.suffix == ".params" and bool(params.read(path).identity)


def _official(
    model: str, checkpoint, ema: bool, source: Optional[str], options: Dict[str, Any]
) -> Tuple[ClassificationNet, str, Dict[str, Any]]:
    """The network with the weights, their source, and the options with those that the checkpoint decides."""
    state = read_checkpoint(checkpoint, ema)
    net = get_model(model, **options)
    if "classes" not in options:
        classes = _num_classes(net, official_state(state), source)
        if classes and classes != net.num_classes:
            net.reset_class(classes)
            options["classes"] = classes
    loaded = load(net, state, source)
    options.update({key: loaded.definition[key] for key, usual in PLAIN.items() if loaded.definition[key] != usual})
    return net, loaded.source, options


def _num_classes(net: ClassificationNet, state: Dict[str, Any], source: Optional[str]) -> Optional[int]:
    keys = find_source(net, state, source).keys(net)
    weight = next(key for key, param in keys.items() if param is net.output.weight)
    return len(state[weight]) if weight in state and state[weight].ndim in (2, 4) else None
