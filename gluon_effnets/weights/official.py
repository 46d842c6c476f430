"""The way back: weights of our networks under the names of an official implementation, in files that it reads."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from .._requirements import optional_import
from ..files.write import make_folder, replacing
from ..models import ClassificationNet
from ..runtime.files import named
from .files import OWN
from .load import SOURCES
from .source import Source

__all__ = ["Written", "official_weights", "targets", "write_official"]

_ENDINGS = (".safetensors", ".npz", ".pth")


class Written(NamedTuple):
    """What `write_official` did.

    Attributes:
        path: Of the file.
        target: Whose names it has.
        num_tensors: Arrays in it.
        compared: How the official network's logits were compared with ours, as a sentence.
    """

    path: str
    target: str
    num_tensors: int
    compared: str

    def __str__(self) -> str:
        return f"{self.path}: {self.num_tensors} tensors with the names of {self.target}; {self.compared}"


def targets(net: ClassificationNet) -> List[str]:
    """Return the implementations in whose names the weights of a network can be written."""
    name = net.info.name if net.info else None
    found = [
        source.name
        for source in SOURCES
        if isinstance(net, source.network)
        and name in {model for model, _ in source.models}
        and _has_way_back(source, net)
    ]
    return [*found, OWN]


def _has_way_back(source: Source, net: ClassificationNet) -> bool:
    # Files of TensorFlow Lite are no dictionaries.
    return source.name != "tflite" and all(found.theirs for found in source.translations(net).values())


def official_weights(net: ClassificationNet, target: str) -> Dict[str, np.ndarray]:
    """Return the weights of a network by the names and in the shapes of an official implementation.

    Args:
        net: With weights.
        target: Of `targets(net)`: 'timm', 'torchvision', ..., or 'safetensors' for our own names.

    Raises:
        ValueError: The implementation has no such network, or does otherwise where no weight tells.

    Example:
        >>> official_weights(net, "torchvision")["classifier.3.weight"].shape
        (1000, 1280)
    """
    if target not in targets(net):
        raise ValueError(
            f"{net.identity['model']} cannot be written with the names of {target!r}; choose {', '.join(targets(net))}"
        )
    if target == OWN:
        return {key: _array(param) for key, param in net._collect_params_with_prefix().items()}
    source = next(source for source in SOURCES if source.name == target and isinstance(net, source.network))
    built = net.definition()
    other = {key: value for key, value in source.definition(net).items() if built.get(key, value) != value}
    if other:
        here = ", ".join(f"{key}={built[key]!r} in place of {value!r}" for key, value in other.items())
        raise ValueError(f"{target} computes otherwise than this network, which has {here}")
    nonzero = [param.name for param in source.lacks(net) if _array(param).any()]
    if nonzero:
        raise ValueError(f"the network of {target} has no {nonzero[0]}, which is not 0 here")
    state: Dict[str, np.ndarray] = {}
    back = {key: found.theirs for key, found in source.translations(net).items() if found.theirs}
    for key, param in source.keys(net).items():
        array = back[key](_array(param)) if key in back else _array(param)
        state[key] = array.reshape(array.shape[:2]) if key in source.matrices else array
        if key.endswith(".running_var"):  # PyTorch counts the batches of its statistics
            state[key.replace("running_var", "num_batches_tracked")] = np.array(0, np.int64)
    return state


def write_official(net: ClassificationNet, path, target: str) -> Written:
    """Write the weights of a network to a file that an official implementation reads.

    Args:
        net: With weights.
        path: Ends in .safetensors, .npz, or .pth (which needs PyTorch).
        target: See `official_weights`.

    Raises:
        ValueError: As `official_weights`, for another ending, or if the official network, where it is installed, gives
            other logits; nothing is written then.
        ImportError: The package that writes the file is missing.
    """
    path = Path(path).expanduser()
    if path.suffix not in _ENDINGS:
        raise ValueError(f"{named(path)}: files for others end in {', '.join(_ENDINGS)}")
    state = official_weights(net, target)
    compared = _compare(net, target, state)
    make_folder(path.parent)
    _write(path, state, _metadata(net, target))
    return Written(str(path), target, len(state), compared)


def _array(param) -> np.ndarray:
    return param.data(param.list_ctx()[0]).astype("float32").asnumpy()


def _metadata(net: ClassificationNet, target: str) -> Dict[str, str]:
    """What is known of the weights besides, as texts."""
    facts: Dict[str, Any] = {"architecture": net.identity["model"], "names_of": target, "identity": net.identity}
    facts.update(net.card.marks())
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def _write(path: Path, state: Mapping[str, np.ndarray], metadata: Dict[str, str]) -> None:
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            np.savez(temporary, **state)
        elif path.suffix == ".pth":
            torch = optional_import("torch", extra="torch", why=f"write {path.name}")
            torch.save({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, temporary)
        else:
            numpy = optional_import("safetensors.numpy", extra="torch", why=f"write {path.name}")
            numpy.save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, temporary, metadata)


def _compare(net: ClassificationNet, target: str, state: Mapping[str, np.ndarray]) -> str:
    """Compare the logits of the official network, where it is installed, with ours, and say how far they agree."""
    import mxnet as mx

    theirs, why = _official_network(net, target)
    if theirs is None:
        return f"not compared: {why}"
    import torch

    theirs.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()})
    side = net.info.input_size if net.info else 224
    images = np.random.RandomState(0).standard_normal((2, net.in_channels, side, side)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs.eval()(torch.from_numpy(images)).numpy().astype(np.float64)  # its squares may be large
    context = net.output.weight.list_ctx()[0]
    ours = net(mx.nd.array(images, ctx=context)).asnumpy()
    difference = float(np.abs(ours - wanted).max() / max(wanted.std(), 1e-12))
    if not difference < 1e-3:
        raise ValueError(f"the network of {target} gives other logits with these weights ({difference:.1e} deviations)")
    return f"its logits are ours to {difference:.1e} of their deviation"


def _official_network(net: ClassificationNet, target: str) -> Any:
    """The official network, or None and the reason."""
    counterpart = getattr(net.info, "torch", None)
    if counterpart is None or counterpart.package != target:
        return None, "its network is not known here by a function of timm or torchvision"
    try:
        package = importlib.import_module(target if target == "timm" else "torchvision.models")
    except Exception as error:  # a torchvision of another PyTorch fails in ways of its own
        return (
            None,
            f"{target} cannot be imported ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
        )
    function = getattr(package, counterpart.function, None)
    arguments: Dict[str, Any] = {**counterpart.arguments, "num_classes": net.num_classes}
    network: Optional[Any] = None
    if function is not None:
        network = function(**arguments)
    elif target == "timm":
        network = package.create_model(counterpart.function, **arguments)
    return network, f"{target} has no {counterpart.function}"
