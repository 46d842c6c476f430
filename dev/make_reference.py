"""Reference outputs of a PyTorch network for the parity tests: tests/fixtures/parity/NAME.json.

    python dev/make_reference.py torchvision mobilenet_v3_small
    python dev/make_reference.py timm efficientnet_b0 --option num_classes=1000
    python dev/make_reference.py python:their_package.models:build --option width=0.5 --out reference.json

Weights are not stored: every tensor follows from its key and shape (tests/support/detrand.py), so the file holds keys,
shapes and logits. Needs torch, and torchvision or timm for their networks, in any environment: MXNet is not used.
What reads the file: an entry in REFERENCES of tests/models/test_parity.py, and an importer in gluon_effnets/weights/.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Sequence, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support")]

import detrand  # noqa: E402

INSTALL = {"torch": "pip install torch", "torchvision": "pip install torchvision", "timm": "pip install timm"}


def required(package: str) -> Any:
    """Import torch, torchvision or timm. Raises ValueError saying how to install it."""
    try:
        return importlib.import_module(package)
    # torchvision of another torch fails in ways of its own.
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        remedy = f"{INSTALL[package]}, in an environment of its own if need be (MXNet is not used here)"
        raise ValueError(f"{package} cannot be imported ({reason}): {remedy}") from None


def find(source: str, name: str) -> Tuple[Callable[..., Any], str, str]:
    """Return the function that builds the network, where it comes from, and a name for the file.

    Args:
        source: 'torchvision', 'timm', or 'python:MODULE:FUNCTION', for which there is no name.
        name: Of the network in torchvision or timm.

    Raises:
        ValueError: For what cannot be imported or found.
    """
    if source == "timm":
        timm = required("timm")
        if name not in timm.list_models():
            raise ValueError(f"timm has no model {name!r}: see timm.list_models()")
        return lambda **kwargs: timm.create_model(name, **kwargs), f"timm {timm.__version__}", f"timm_{name}"
    if source == "torchvision":
        torchvision = required("torchvision")
        if not callable(getattr(torchvision.models, name, None)):
            raise ValueError(f"torchvision has no model {name!r}: see torchvision.models.list_models()")
        builder = getattr(torchvision.models, name)
        return builder, f"torchvision {torchvision.__version__} {builder.__module__}", f"torchvision_{name}"
    kind, _, place = source.partition(":")
    module, _, function = place.partition(":")
    if kind != "python" or not function:
        raise ValueError(f"source is {source!r}: give torchvision NAME, timm NAME or python:MODULE:FUNCTION")
    sys.path[:0] = [str(Path.cwd())]
    try:
        return getattr(importlib.import_module(module), function), place, function
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{place} cannot be imported from here: {error}") from None


def make_reference(net: Any, about: Dict[str, Any], size: int = 224, n: int = 2, seed: int = 0, exact: bool = True):
    """Run a network with weights that follow from their keys, and return the reference.

    Args:
        net: A torch module: images (N, 3, H, W) -> logits (N, classes).
        about: Entries 'source', 'model' and 'kwargs' of the reference.
        size: Side of the images, in pixels.
        n: Number of images.
        seed: Of the images.
        exact: Compute in float64, which leaves no rounding to allow for; else in float32.

    Returns:
        {'source', 'model', 'kwargs', 'state': [[key, shape], ...], 'explicit': tensors that do not follow from their
        key, 'input': {'n', 'size', 'seed'}, 'precision' if it is float64, 'logits' with 7 digits, 'params', 'madds' of
        one image}.
    """
    torch = required("torch")
    from torch.utils.flop_counter import FlopCounterMode

    shapes, explicit, values = [], {}, {}
    for key, tensor in net.state_dict().items():
        shapes.append([key, list(tensor.shape)])
        follows = tensor.is_floating_point() or key.split(".")[-1] == "num_batches_tracked"
        array = detrand.tensor(key, tuple(tensor.shape)) if follows else tensor.numpy()
        if not follows:
            listed = {"enc": "list", "dtype": str(array.dtype), "shape": list(array.shape)}
            explicit[key] = {**listed, "values": array.ravel().tolist()}
        values[key] = torch.from_numpy(np.array(array))
    net.load_state_dict(values)
    net = net.eval().to(torch.float64 if exact else torch.float32)
    images = torch.from_numpy(detrand.images(n, size, seed)).to(torch.float64 if exact else torch.float32)
    with torch.no_grad():
        logits = net(images)
        with FlopCounterMode(display=False) as counter:
            net(images[:1])
    return {
        **about,
        "state": shapes,
        "explicit": explicit,
        "input": {"n": n, "size": size, "seed": seed},
        **({"precision": "float64"} if exact else {}),
        "logits": [[float(f"{value:.7g}") for value in row] for row in logits.tolist()],
        "params": sum(param.numel() for param in net.parameters()),
        # A multiply-add is two operations there.
        "madds": counter.get_total_flops() // 2,
    }


def _option(text: str) -> Tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def main(arguments: Sequence[str]) -> int:
    """Write a reference; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="torchvision, timm or python:MODULE:FUNCTION")
    parser.add_argument("name", nargs="?", default="", help="of the network in torchvision or timm")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="argument of its function")
    parser.add_argument("--size", type=int, default=224, help="side of the images (default: 224)")
    parser.add_argument("--images", type=int, default=2, help="number of images (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--float32", action="store_true", help="compute in float32 (default: float64)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: tests/fixtures/parity/SOURCE_NAME.json")
    args = parser.parse_args(arguments)
    try:
        required("torch")
        build, origin, label = find(args.source, args.name)
        kwargs = dict(map(_option, args.option))
        about = {"source": origin, "model": args.name or args.source.rpartition(":")[2], "kwargs": kwargs}
        reference = make_reference(build(**kwargs), about, args.size, args.images, args.seed, not args.float32)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    out = args.out or ROOT / "tests" / "fixtures" / "parity" / f"{label}.json"
    out.write_text(json.dumps(reference) + "\n", encoding="utf-8")
    print(f"{out}: {reference['params']:,} parameters, {reference['madds']:,} MAdds")
    print(f'Compare it: an entry "{out.stem}" in REFERENCES of tests/models/test_parity.py')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
