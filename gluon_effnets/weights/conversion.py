"""convert: an official checkpoint, or one to condense, becomes a `.params` file of one of our models."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx

from ..complexity import count_params
from ..files.write import make_folder
from ..models import Card, ClassificationNet, get_model, model_info, params
from ..models.condense import condense as condense_net
from ..models.preprocessing import Preprocessing
from ..models.registry import load_stored, stored_weights
from .checkpoint import Checkpoint
from .files import read_checkpoint
from .load import find_source, load, official_state
from .mbnet import PLAIN
from .published import PublishedWeights, find_packaged, known_file, published_weights, stamp

__all__ = ["Conversion", "convert", "obtain", "weights_path"]

log = logging.getLogger(__name__)


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
    published = None if condense else known_file(Path(checkpoint).expanduser())
    if published:
        stamp(net, published)
    net.save_parameters(str(out))
    return Conversion(net.identity["model"], source, count_params(net), options, str(out), net.preprocessing)


def weights_path(model: str, text: str) -> str:
    """Return the path of a file of weights that a user named, which is `text` itself or stands for published weights.

    Args:
        model: A name of `list_models()`.
        text: A path, or 'pretrained' for what `pretrained=True` means.

    Raises:
        FileNotFoundError: There are no such weights; the text says what can be had, and how.
    """
    return str(stored_weights(model_info(model).name)) if text == "pretrained" else text


def obtain(model: str, out: Path) -> None:
    """Write the published weights of a model that `pretrained=True` means, if the package with them is installed.

    Args:
        model: A name of `list_models()`.
        out: The file to write.

    Raises:
        FileNotFoundError: They are not installed, or there are none; the text says what can be had and how.
        ValueError: The installed file is not the one that is known.
    """
    rows = published_weights(model)
    meant = next((row for row in rows if row.name == model and row.package), None)
    found = meant and find_packaged(meant)
    if meant is None or found is None:
        raise FileNotFoundError(_what_can_be_had(model, out, rows))
    if known_file(found) != meant:
        raise ValueError(f"{found} is not the file that {meant.package} is known to have; install it anew")
    log.warning("the weights of %s (%s) are written to %s", found, meant.license, out)
    convert(meant.model, found, out, source=meant.source, **meant.options)


def _what_can_be_had(model: str, out: Path, rows: Sequence[PublishedWeights]) -> str:
    if rows:
        ways = "\n".join(f"{row.name} ({row.license}, {row.trained_by}): {row.how}" for row in rows)
        return f"no weights at {out}. Of {model} there are\n{ways}"
    others = ", ".join(sorted({row.model for row in published_weights()}))
    return (
        f"no weights at {out}, and none of {model} in the table of published weights "
        f"(which are of {others}).\nTrain them, or convert an official checkpoint:\n"
        f"  python -m gluon_effnets convert --model {model} CHECKPOINT {out}"
    )


def _is_ours(checkpoint) -> bool:
    path = Path(checkpoint).expanduser()
    return path.suffix == ".params" and bool(params.read(path).identity)


def _official(
    model: str, checkpoint, ema: bool, source: Optional[str], options: Dict[str, Any]
) -> Tuple[ClassificationNet, str, Dict[str, Any]]:
    """The network with the weights, their source, and the options with those that the checkpoint decides."""
    state = read_checkpoint(checkpoint, ema)
    if state.marks:
        return _own(model, state, options), "gluon_effnets", options
    net = get_model(model, **options)
    if state.keys() == net._collect_params_with_prefix().keys():
        return _own(model, state, options), "gluon_effnets", options
    needed = find_source(net, official_state(state), source).builds(model_info(model).name)
    if not needed.items() <= options.items():
        options = {**needed, **options}
        net = get_model(model, **options)
    if "classes" not in options:
        classes = _num_classes(net, official_state(state), source)
        if classes and classes != net.num_classes:
            net.reset_class(classes)
            options["classes"] = classes
    loaded = load(net, state, source)
    options.update({key: loaded.definition[key] for key, usual in PLAIN.items() if loaded.definition[key] != usual})
    return net, loaded.source, options


def _own(model: str, state: Checkpoint, options: Dict[str, Any]) -> ClassificationNet:
    """The network of a file with our own names, as `write_official` writes it; some kinds of files hold no card."""
    marks, where = dict(state.marks), str(state.path)
    card = Card.taken_from(marks, where)
    arrays = {key: mx.nd.array(value, dtype=value.dtype) for key, value in state.items()}
    return load_stored(model_info(model).name, params.Stored(arrays, marks, card), where, **options)


def _num_classes(net: ClassificationNet, state: Dict[str, Any], source: Optional[str]) -> Optional[int]:
    keys = find_source(net, state, source).keys(net)
    weight = next(key for key, param in keys.items() if param is net.output.weight)
    return len(state[weight]) if weight in state and state[weight].ndim in (2, 4) else None
