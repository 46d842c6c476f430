"""The registry: networks by name, as GluonCV's model zoo gives them; `catalog.py` lists them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import logging
import math
import os
from pathlib import Path, PurePath
from typing import Any, Callable, Dict, Literal, Mapping, Optional, Sequence, Tuple, Union, overload

import mxnet as mx

from .. import _foreign
from ..files.mistakes import as_mistakes
from ..files.schema import check_type
from ..files.text import shortened, shown
from ..runtime.files import named
from . import params
from .adapted import adapt_stored
from .base import ClassificationNet
from .features import FeatureNet
from .info import Deployment, ModelInfo, TorchCounterpart
from .option_bounds import check_options
from .taps import Tap

__all__ = [
    "Entry",
    "described_network",
    "entries",
    "get_model",
    "load_stored",
    "register_model",
    "resolve",
    "stored_weights",
]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Entry:
    """What makes a network, what is known of it, and whether lists leave it out."""

    build: Callable[..., ClassificationNet]
    info: ModelInfo
    hidden: bool


_entries: Dict[str, Entry] = {}
_aliases: Dict[str, str] = {}


def register_model(
    *,
    family: str,
    paper: str,
    reconstruction: str = "",
    aliases: Tuple[str, ...] = (),
    input_size: int = 224,
    classes: int = 1000,
    interpolation: str = "bilinear",
    representative: Union[bool, Sequence[Deployment]] = False,
    small: bool = False,
    torch: Optional[Tuple[str, str, Mapping[str, Any]]] = None,
    hidden: bool = False,
) -> Callable[[Callable[..., ClassificationNet]], Callable[..., ClassificationNet]]:
    """Make a decorator that registers a function `name(**options) -> network` under its own name.

    The decorated function also takes GluonCV's `pretrained`, `classes`, `ctx` and `root`, as `get_model` does. All
    that benchmarks, tests and tables have to know about a network is said here; they have no lists of their own.

    Args:
        family: Networks of one family share a representative and a small network; one of each is needed.
        paper: Title and arXiv number.
        reconstruction: What the paper does not fix, and is ours.
        aliases: Other names, in lower case and with `_` for dots and hyphens.
        input_size: Side of the square images, in pixels.
        classes: Number of classes if none is asked for.
        interpolation: Of the resizing in the evaluation; see `ModelInfo`.
        representative: True for the network that stands for its family in `benchmark profile --all-families`, or the
            forms in which it is deployed there, as `Deployment`s.
        small: True for the network that stands for its family in tests that take seconds a network: the cheapest one
            that has all kinds of its layers. It may be hidden.
        torch: Package, function and arguments of the same architecture in torchvision or timm, if it is there.
        hidden: Built by name, but not listed.

    Raises:
        ValueError: If the name or an alias is taken, or the family has a small network already.

    Example:
        >>> @register_model(family="plain", paper="none", representative=True, small=True)
        ... def plain_x1_0(**options):
        ...     return PlainNet(1.0, **options)
    """

    def decorate(build):
        name = build.__name__
        taken = {name, *aliases} & (_entries.keys() | _aliases.keys())
        if taken:
            raise ValueError(f"model name {', '.join(sorted(taken))} is registered already")
        others = [other for other, entry in _entries.items() if entry.info.family == family and entry.info.small]
        if small and others:
            raise ValueError(f"{others[0]} is the small network of the family {family} already: take small off {name}")
        info = ModelInfo(
            name,
            family,
            (build.__doc__ or "").strip().split("\n")[0],
            paper,
            reconstruction,
            aliases,
            input_size=input_size,
            classes=classes,
            interpolation=interpolation,
            representative=(Deployment(),) if representative is True else tuple(representative or ()),
            small=small,
            torch=torch and TorchCounterpart(*torch),
        )
        _entries[name] = Entry(build, info, hidden)
        _aliases.update(dict.fromkeys(aliases, name))

        @functools.wraps(build)
        def model(pretrained=False, classes=None, ctx=mx.cpu(), root=None, **options):
            return get_model(name, pretrained, classes, ctx, root, **options)

        return model

    return decorate


# What makes the file of published weights of a model, by name, as it stands above this room; read when it is needed.
_OBTAIN = "gluon_effnets.weights.conversion:obtain"


def entries() -> Mapping[str, Entry]:
    """Return what is registered, by full name."""
    return _entries


def resolve(name: str) -> str:
    """Return the full name of a model that a user names: by an alias, in GluonCV's spelling, or as 'module:name'.

    Raises:
        ValueError: For an unknown name.
    """
    check_type("name", name, str, words="a name of list_models()")
    if _foreign.is_foreign(name):
        _entries[name] = _foreign_entry(name)
        return name
    plain = name.lower().replace(".", "_").replace("-", "_")
    plain = _aliases.get(plain, plain)
    if plain in _entries:
        return plain
    near = difflib.get_close_matches(plain[:100], [*_entries, *_aliases], 3, 0.4) or sorted(_entries)[:3]
    raise ValueError(
        f"unknown model {shortened(name)}. Nearest: {', '.join(near)}.\n"
        "All names: python -m gluon_effnets list, or gluon_effnets.list_models()."
    )


def _foreign_entry(name: str) -> Entry:
    """What 'module:name' stands for, which a recipe, a command line or a call names, but never a file of weights."""
    build = _foreign.load_foreign(name, "model")
    if not callable(build):
        raise ValueError(f"model {name!r} is of type {type(build).__name__}, not a function that returns a network")

    def checked(**options) -> ClassificationNet:
        net = build(**options)
        if not isinstance(net, ClassificationNet):
            raise ValueError(f"model {name!r} returns a {type(net).__name__}, not a ClassificationNet")
        return net

    summary = (build.__doc__ or "").strip().split("\n")[0]
    return Entry(checked, ModelInfo(name, build.__module__, summary, paper=""), hidden=True)


@overload
def get_model(
    name: str,
    pretrained: Any = ...,
    classes: Optional[int] = ...,
    ctx: Any = ...,
    root: Optional[str] = ...,
    *,
    features_only: Literal[True],
    **kwargs: Any,
) -> FeatureNet: ...
@overload
def get_model(
    name: str,
    pretrained: Any = ...,
    classes: Optional[int] = ...,
    ctx: Any = ...,
    root: Optional[str] = ...,
    **kwargs: Any,
) -> ClassificationNet: ...
def get_model(
    name: str,
    pretrained=False,
    classes: Optional[int] = None,
    ctx=mx.cpu(),
    root: Optional[str] = None,
    *,
    weights: Union[str, PurePath, None] = None,
    features_only: bool = False,
    out_indices: Optional[Sequence[Tap]] = None,
    **kwargs,
) -> Any:
    """Build a network by name.

    Args:
        name: As in `list_models()`; GluonCV's spellings, dots and upper case are understood. Or 'module:name' of what
            makes a ClassificationNet outside of the package; the module is imported.
        pretrained: False; a path of a `.params` file; or True for the file `<root>/<name>.params`, which is made of
            published weights if they are installed (`python -m gluon_effnets weights`). Options that decide
            the outputs but show in no shape (BN epsilon, padding, ...) are taken from the file unless they are given,
            and `net.card` says what the file wants done to images, and what its classes are called.
        classes: Number of classes; None: that of the file, or `ModelInfo.classes` without one. If the file has another
            number, everything but the classifier is taken from it.
        ctx: Context of the loaded weights. Without `pretrained` the network is not initialized.
        root: Folder of the files for `pretrained=True`; None: `models` in the folder that the variable MXNET_HOME
            names, by default ~/.mxnet.
        weights: A path, in place of `pretrained`.
        features_only: Return a FeatureNet, which gives maps in place of logits.
        out_indices: Its maps: stages from 0 or -1, or any taps of `ClassificationNet.extract`. None: all stages.
        kwargs: Options of the network, for example `in_channels`, `dropout`, `bn_epsilon`, `stem_stride`;
            `output_stride` (8, 16 or 32) drops the strides beyond and dilates the kernels behind them. With
            `pretrained`, another `in_channels` than that of the file adapts the first convolution (summed for one
            channel, else repeated and scaled to the same sum) and the preprocessing; another `stem_stride` is taken.
            The log tells both.

    Returns:
        A ClassificationNet, or with `features_only` a FeatureNet.

    Raises:
        ValueError: For an unknown name, weights of another network, or a map that it does not have.
        TypeError: For an unknown option.
        FileNotFoundError: If `pretrained` finds no file; the text says what can be had, and how.

    Example:
        >>> net = get_model("idle_mbv3", classes=10, dropout=0.1)
    """
    name = resolve(name)
    check_type("pretrained", pretrained, bool, str, PurePath, type(None), words="False, True or a path")
    check_type("classes", classes, int, type(None), words="a number of classes or None")
    check_type("weights", weights, str, PurePath, type(None), words="a path or None")
    if pretrained and weights:
        raise ValueError(f"{name}: pretrained and weights name two files; give one of them")
    if out_indices is not None and not features_only:
        raise ValueError(f"{name}: out_indices goes with features_only=True")
    pretrained = weights or pretrained
    if pretrained:
        path = _weights_path(name, pretrained, root)
        net = load_stored(name, params.read(path), path, classes, ctx, **kwargs)
    else:
        net = _build(name, _entries[name].info.classes if classes is None else classes, kwargs)
    return FeatureNet(net, out_indices) if features_only else net


def load_stored(
    name: str, stored: params.Stored, path, classes: Optional[int] = None, ctx=mx.cpu(), **kwargs
) -> ClassificationNet:
    """Build a network by its full name with the content of a file, as `get_model` does with `pretrained`.

    `path` : where the content comes from, for the texts of errors.
    """
    if stored.identity.get("model", name) != name:
        raise ValueError(f"{path} holds the weights of {shown(str(stored.identity['model']))}, not of {name}")
    if name not in _entries:
        raise ValueError(f"{path} is of the model {shortened(name)}, which is not known here")
    stored_options = {key: value for key, value in stored.identity.items() if key != "model"}
    held, stride = params.classifier_in(stored), kwargs.pop("output_stride", None)
    num_classes = held.num_classes if held else classes or _entries[name].info.classes
    net = _build(name, num_classes, {**stored_options, **kwargs})
    if held and held.has_bias and net.output.bias is None:
        # A classifier with a bias took the place of the model's own.
        net.classifier_bias = True
        net.reset_class(num_classes)
    params.assign(net, adapt_stored(net, stored, path, kwargs), path, ctx=ctx)
    if stride is not None:
        net.set_output_stride(stride)
    if classes is not None and classes != net.num_classes:
        log.warning("%s has %d classes: the classifier is new, for %d", path, net.num_classes, classes)
        net.reset_class(classes)
    return net


# Options that leave the outputs of a network in use as they are.
_TRAINING_OPTIONS = {
    "bn_momentum",
    "carry_idle",
    "drop_connect",
    "dropout",
    "merged_concat",
    "norm_kwargs",
    "norm_layer",
    "params",
    "prefix",
    "shortcut",
}


_MOST_PARAMETERS = 1 << 29


def _build(name: str, classes: int, options: Dict[str, Any]) -> ClassificationNet:
    entry = _entries[name]
    check_options(name, classes, options)
    stride, options = options.get("output_stride"), {k: v for k, v in options.items() if k != "output_stride"}
    try:
        with as_mistakes(f"{name} cannot be built with {shortened({'classes': classes, **options}, 40)}"):
            net = entry.build(classes=classes, **options)
    except ValueError as error:
        unknown = error.__cause__ if isinstance(error.__cause__, TypeError) else None
        if "unexpected keyword" not in str(unknown):
            raise
        text = shown(str(unknown).split(") ")[-1])
        raise TypeError(f"{name}: {text}; its doc-string names the options") from None
    size = sum(math.prod(param.shape) for param in net.collect_params().values() if param.shape)
    if size > _MOST_PARAMETERS:
        raise ValueError(f"{name} would have {size:,} parameters; at most {_MOST_PARAMETERS:,} fit into a file")
    net.info = entry.info
    net.options = {k: v for k, v in options.items() if k not in _TRAINING_OPTIONS}
    if stride is not None:
        net.set_output_stride(stride)
    return net


def _weights_path(name: str, pretrained, root: Optional[str]) -> Path:
    if pretrained is not True:
        path = Path(pretrained).expanduser()
        if not os.path.isfile(path):
            at = named(path)
            raise FileNotFoundError(
                f"no weights at {at}: train them, or convert an official checkpoint:\n"
                f"  python -m gluon_effnets convert --model {name} CHECKPOINT {at}"
            )
        return path
    return stored_weights(name, root)


def stored_weights(name: str, root: Optional[str] = None) -> Path:
    """Return the file that `pretrained=True` means, which is made of published weights if need be.

    Args:
        name: Full name of a model.
        root: See `get_model`.

    Raises:
        FileNotFoundError: There is none; the text says what can be had, and how.
    """
    folder = Path(mx.base.data_dir()) / "models" if root is None else Path(root)
    path = folder.expanduser() / f"{name.rpartition(':')[2]}.params"
    if not path.is_file():
        _foreign.load_foreign(_OBTAIN, "published weights")(name, path)
    return path


def described_network(name: str, classes: int, options: Mapping[str, Any]) -> Optional[ClassificationNet]:
    """Build the network that a file describes, without weights; None if it cannot be built here. Nothing is imported.

    Args:
        name: Full name of the model.
        classes: Number of classes.
        options: Of the network.
    """
    if name not in _entries:
        return None
    try:
        return _build(name, classes, dict(options))
    except (TypeError, ValueError):  # options of another version, or a stranger's
        return None
