"""load_official: recognize an official checkpoint, check it, write it into a network, adapt that."""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import Constant, Parameter
from mxnet.gluon.block import HybridBlock

from ..files.schema import check_type
from ..files.text import shortened
from ..models import ClassificationNet
from ..nn import ConvBN
from .condensenet import CONDENSENET, CONDENSENET_CONVERTED, CONDENSENET_V2, CONDENSENET_V2_CONVERTED
from .dsnet import DS_NET
from .files import to_array
from .fssd import PYTORCH_FSSD
from .gluoncv import GLUONCV
from .lukemelas import LUKEMELAS
from .mbnet import PLAIN
from .mobilenext import (
    MOBILENET_V2_EXTRA,
    MOBILENET_V2_EXTRA_LINEAR,
    MOBILENEXT,
    MOBILENEXT_FIG4C,
    MOBILENEXT_LOW_SHORTCUT,
    MOBILENEXT_SE,
)
from .shufflenet import MEGVII_V1, MEGVII_V2, TORCHVISION_SHUFFLENET
from .source import Source
from .ssdlite import THIRD_PARTY_SSDLITE, TORCHVISION_SSDLITE
from .tflite import TFLITE
from .timm import TIMM, TIMM_TF
from .torchvision import TORCHVISION

__all__ = ["SOURCES", "Loaded", "find_source", "load", "load_official", "official_state"]

log = logging.getLogger(__name__)

# A new importer is a module with a `Source`, and its entry here.
SOURCES = (
    TIMM,
    TIMM_TF,
    TORCHVISION,
    LUKEMELAS,
    GLUONCV,
    # Marks of the first four are in no checkpoint of the others, but not the other way round.
    MOBILENET_V2_EXTRA,
    MOBILENET_V2_EXTRA_LINEAR,
    MOBILENEXT_LOW_SHORTCUT,
    MOBILENEXT_FIG4C,
    MOBILENEXT_SE,
    MOBILENEXT,
    MEGVII_V1,
    MEGVII_V2,
    TORCHVISION_SHUFFLENET,
    # The second version's networks have the marks of the first, too.
    CONDENSENET_V2,
    CONDENSENET_V2_CONVERTED,
    CONDENSENET,
    CONDENSENET_CONVERTED,
    DS_NET,
    TFLITE,
    THIRD_PARTY_SSDLITE,
    TORCHVISION_SSDLITE,
    PYTORCH_FSSD,
)

# What wrappers put before every key, and bookkeeping that is no weight.
PREFIXES = ("module.", "_orig_mod.")
BOOKKEEPING = ("num_batches_tracked", "n_averaged")

Shape = Tuple[int, ...]


class Loaded(NamedTuple):
    """The source of a loaded checkpoint, and the options of the network that belong to it."""

    source: str
    definition: Dict[str, Any]


class _Misfit(NamedTuple):
    missing: List[str]
    unexpected: List[str]
    shapes: Dict[str, Tuple[Parameter, Shape, Shape]]  # official key -> parameter, official shape, expected one


def load_official(net: ClassificationNet, state: Mapping[str, Any], source: Optional[str] = None) -> str:
    """Load the weights of an official implementation into a network.

    The BN epsilon and the padding of the source are set in the network, unless it was built with explicit values
    (`net.fixed_options`); a hybridized network stays hybridized and follows. `net.preprocessing` becomes what the
    weights want. `net.save_parameters` keeps all of this in its file, from where `get_model` takes it.

    Args:
        net: A network of this package, initialized or not, hybridized or not.
        state: Official key -> array (NumPy, MXNet or PyTorch), for example from `read_checkpoint`.
        source: A name of docs/weights.md, such as 'timm' or 'torchvision'; None: recognized by the keys. Where two
            sources have the same keys, as timm's own and its tf_* networks, with another BN epsilon and padding,
            explicit options of the network or the architecture that `read_checkpoint` found tell, or you must.

    Returns:
        The name of the source.

    Raises:
        ValueError: With the network as it was, if the keys or shapes do not fit or have two meanings, a number is not
            finite, a mask or index is wrong, the source is unknown, or an option contradicts it. Another number of
            classes does not fit either: build the network with the classes of the checkpoint and call `reset_class`
            afterwards.

    Example:
        >>> load_official(get_model("efficientnet_b0"), read_checkpoint("efficientnet_b0_rwightman-7f5810bc.pth"))
        'torchvision'
    """
    return load(net, state, source).source


def load(net: ClassificationNet, state: Mapping[str, Any], source: Optional[str] = None) -> Loaded:
    """`load_official` that also returns the options of the source. Same parameters and errors."""
    check_type("net", net, HybridBlock, words="a network of get_model")
    check_type("source", source, str, type(None), words="a name of docs/weights.md, or None")
    checkpoint, state = state, official_state(state)
    chosen = find_source(net, state, source)
    misfit = _compare(net, chosen, state)
    if any(misfit):
        raise ValueError(_describe(net, chosen, state, misfit))
    numbers = {key: _numbers(key, value) for key, value in state.items() if not key.startswith(chosen.ignores)}
    broken = [key for key, value in numbers.items() if not np.isfinite(value).all()]
    if broken:
        raise ValueError(
            f"the {chosen.name} weights are damaged: not all numbers of {_some(broken)} are finite (inf or nan).\n"
            "Get the file again, or another one of the same network."
        )
    chosen, definition = _read_as(net, chosen, checkpoint, is_named=source is not None)
    translations = chosen.translations(net)
    values = {
        param: translations[key].ours(numbers) if key in translations else numbers[key]
        for key, param in chosen.keys(net).items()
    }
    values.update({param: np.zeros(param.shape, np.float32) for param in chosen.lacks(net)})
    # From here on nothing can fail.
    _write(net, values)
    _adapt(net, definition)
    stated = getattr(checkpoint, "preprocessing", {})
    net.preprocessing = chosen.completed(chosen.preprocessing(net, definition)._replace(**stated))
    return Loaded(chosen.name, definition)


def official_state(state: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the weights of a state dict under their bare keys. Raises ValueError if it is no mapping."""
    if not isinstance(state, Mapping):
        raise ValueError(f"state is a {type(state).__name__}, not a mapping of keys to arrays; see read_checkpoint")
    bare = {}
    for key, value in state.items():
        key = str(key)
        while key.startswith(PREFIXES):
            key = key.split(".", 1)[1]
        if key.rsplit(".", 1)[-1] not in BOOKKEEPING:
            bare[key] = value
    return bare


def find_source(net: ClassificationNet, state: Mapping[str, Any], source: Optional[str] = None) -> Source:
    """Return the source named or recognized by the keys of `state`. Raises ValueError if there is none."""
    known = {candidate.name: candidate for candidate in SOURCES if isinstance(net, candidate.network)}
    if not known:
        raise ValueError(f"there is no importer of official weights for {_name(net)}")
    if source is not None:
        if source not in known:
            raise ValueError(f"unknown source {shortened(source)} for {_name(net)}; choose one of {', '.join(known)}")
        return known[source]
    if next(iter(net._collect_params_with_prefix())) in state:
        raise ValueError(
            "these weights are a file of this package already: load it with get_model(NAME, pretrained=PATH)"
        )
    for candidate in known.values():
        if candidate.mark in state:
            return candidate
    raise ValueError(
        f"not recognized: a checkpoint whose keys are {_some(list(state)) or 'none'}.\n"
        f"Known for {_name(net)}: {', '.join(known)} (flat keys as of state_dict() or save_parameters())."
    )


def _compare(net: ClassificationNet, source: Source, state: Mapping[str, Any]) -> _Misfit:
    wanted, translations = source.keys(net), source.translations(net)
    expected = {
        key: _matrix_shape(translations[key].shape if key in translations else param.shape)
        for key, param in wanted.items()
    }
    covered = {*wanted.values(), *source.lacks(net)}
    missing = [key for key in wanted if key not in state]
    missing += [f"{key} (ours)" for key, p in _learned(net).items() if p not in covered]
    official = {key: _matrix_shape(np.shape(value)) for key, value in state.items()}
    shapes = {
        key: (param, official[key], expected[key])
        for key, param in wanted.items()
        if key in official and official[key] != expected[key]
    }
    unexpected = [
        key
        for key in state
        if key not in wanted and not key.startswith(source.ignores) and key.rsplit(".", 1)[-1] not in source.implied
    ]
    return _Misfit(missing, unexpected, shapes)


def _matrix_shape(shape) -> Shape:
    """A 1x1 convolution of one definition is a fully connected layer in another."""
    shape = tuple(int(size) for size in shape)
    return shape[:2] if shape[2:] == (1, 1) else shape


def _explain(net: ClassificationNet, source: Source, misfit: _Misfit) -> Optional[Dict[str, Any]]:
    if misfit.missing or misfit.unexpected:
        return None
    return source.explain(net, {param: shape for param, shape, _ in misfit.shapes.values()})


def _describe(net: ClassificationNet, source: Source, state: Mapping[str, Any], misfit: _Misfit) -> str:
    shapes = [f"{key} {have} instead of {wanted}" for key, (_, have, wanted) in misfit.shapes.items()]
    parts = (("missing", misfit.missing), ("unexpected", misfit.unexpected), ("other shape", shapes))
    problems = "; ".join(f"{what}: {_some(keys)}" for what, keys in parts if keys)
    advice = _advice(net, source, state, misfit)
    return f"the {source.name} weights do not fit {_name(net)}: {problems}.\n{advice}"


def _advice(net: ClassificationNet, source: Source, state: Mapping[str, Any], misfit: _Misfit) -> str:
    options = _explain(net, source, misfit)
    if options:
        advice = f"Build the network with {_arguments(options)}"
        if "classes" in options:
            return f"{advice}; net.reset_class({net.num_classes}) after loading gives it your classes."
        return f"{advice}."
    for name, defaults in source.models:
        model = source.make(name, **defaults)
        found = _explain(model, source, _compare(model, source, state))
        if found is not None:
            options = {**defaults, **found}
            return f"They fit {source.make.__name__}({', '.join(filter(None, (repr(name), _arguments(options))))})."
    names = ", ".join(dict.fromkeys(name for name, _ in source.models))
    return f"They are incomplete, of another source, or of none of the models known of {source.name} ({names})."


def _read_as(
    net: ClassificationNet, chosen: Source, checkpoint: Mapping[str, Any], is_named: bool
) -> Tuple[Source, Dict[str, Any]]:
    """The source, and the definition of the network, that a checkpoint is of, out of those with the same keys."""
    readings = [
        candidate
        for candidate in SOURCES
        if isinstance(net, candidate.network)
        and candidate.mark == chosen.mark
        and not isinstance(net, candidate.not_for)
    ]
    architecture = getattr(checkpoint, "architecture", None)
    told = [candidate for candidate in readings if architecture and candidate.is_of(architecture)]
    if is_named:
        if told and chosen not in told:
            log.warning(
                "the checkpoint says that it is %s, of %s; it is read as %s", architecture, told[0].name, chosen.name
            )
        return chosen, _definition(net, chosen)
    if len(readings) == 1 or len(told) == 1:
        chosen = (told or readings)[0]
        return chosen, _definition(net, chosen)
    # Whoever set options of the network knows.
    definitions, explicit = [candidate.definition(net) for candidate in readings], getattr(net, "fixed_options", {})
    fitting = [
        candidate
        for candidate, definition in zip(readings, definitions)
        if explicit and all(explicit.get(key, value) == value for key, value in definition.items())
    ]
    if len(fitting) == 1:
        return fitting[0], dict(fitting[0].definition(net))
    if all(key in explicit for key in definitions[0]):
        return chosen, dict(explicit)
    choice = " or ".join(
        f"source={candidate.name!r} ({_arguments(definition)})" for candidate, definition in zip(readings, definitions)
    )
    path = getattr(checkpoint, "path", None)
    raise ValueError(
        f"the keys do not tell whose weights{f' {path.name}' if path else ''} are; a wrong reading changes all answers:"
        f"\n{choice}.\nSay which: --source NAME of convert, source=NAME in Python."
    )


def _definition(net: ClassificationNet, source: Source) -> Dict[str, Any]:
    official, explicit = source.definition(net), getattr(net, "fixed_options", {})
    # All is decided when the network is built, but epsilon and padding of those that can adapt.
    open_ones = PLAIN if hasattr(net, "fixed_options") else ()
    built = {key: value for key, value in net.definition().items() if key in official and key not in open_ones}
    fixed = {**built, **explicit}
    right = {key: value for key, value in official.items() if fixed.get(key, value) != value}
    if not right:
        return dict(official)
    without = f", or leave {' and '.join(right)} out" if right.keys() <= explicit.keys() else ""
    raise ValueError(
        f"the {source.name} weights need {_arguments(right)}, but {_name(net)} was built with "
        f"{_arguments({key: fixed[key] for key in right})}.\n"
        f"Build it with {_arguments(right)}{without}."
    )


def _numbers(key: str, value: Any) -> np.ndarray:
    try:
        return to_array(value).astype(np.float32, copy=False)
    except (TypeError, ValueError):
        raise ValueError(f"{key} in the state holds no numbers but {type(value).__name__}") from None


def _learned(net: HybridBlock) -> Dict[str, Parameter]:
    """Parameters by their place, without constants such as anchors, which no checkpoint holds."""
    return {key: p for key, p in net._collect_params_with_prefix().items() if not isinstance(p, Constant)}


def _write(net: HybridBlock, values: Mapping[Parameter, np.ndarray]) -> None:
    ctx = next((param.list_ctx() for param in values if param._data is not None), [mx.current_context()])
    for param, value in values.items():
        if param._data is None:
            param.initialize(init=mx.init.Zero(), ctx=ctx)
        param.set_data(mx.nd.array(value.reshape(param.shape)))
    for param in net.collect_params().values():
        if isinstance(param, Constant) and param._data is None:
            param.initialize(ctx=ctx)


def _adapt(net: ClassificationNet, definition: Mapping[str, Any]) -> None:
    def adapt(block):
        if isinstance(block, ConvBN):
            block.bn._kwargs["eps"] = definition["bn_epsilon"]
            block.set_padding(definition["padding"])
        if isinstance(block, HybridBlock):
            # A cached graph has the old epsilon and padding in it; the flags of hybridize() stay.
            block._clear_cached_op()

    net.apply(adapt)


def _name(net: ClassificationNet) -> str:
    info = getattr(net, "info", None)
    return info.name if info else type(net).__name__


def _arguments(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


def _some(texts: List[str]) -> str:
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more
