"""Networks of torchvision and timm in PyTorch: eager, frozen and optimized, in two memory layouts; for worker.py."""

from __future__ import annotations

import functools
import importlib
import platform
import sys
import warnings

# Declarations of operators go when they are collected.
_KEPT = []


def versions() -> dict:
    """Import PyTorch and torchvision; the versions of what the times depend on."""
    import numpy
    import torch

    library = _import_torchvision()
    return {
        "torch": torch.__version__,
        "torchvision": library.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def build(job: dict, threads: int):
    """A call of the network job['builder'] on job['shape'] in job['form'].

    Raises ValueError unless it has job['params'] parameters and job['madds'] multiply-adds (None: not compared).
    """
    import torch

    torch.set_num_threads(threads)
    net, x = _network(*job["builder"]), torch.randn(job["shape"], generator=torch.Generator().manual_seed(0))
    cost = _cost(net, x[:1])
    if cost[0] != job["params"] or job["madds"] not in (None, cost[1]):
        raise ValueError(
            f"{'.'.join(job['builder'][:2])} is another network: {cost[0]:,} parameters and {cost[1]:,} multiply-adds "
            f"there, {job['params']:,} and {job['madds'] or 0:,} here"
        )
    form, size = job["form"], sum(value.nbytes for value in net.state_dict().values())
    if form.endswith("channels-last"):
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if form.startswith("jit"):
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is deprecated; nothing else is as fast without a compiler
            net = torch.jit.freeze(torch.jit.trace(net, x))
            if "optimized" in form:  # faster for MobileNetV2, slower for MobileNetV3
                net = torch.jit.optimize_for_inference(net)
    return torch.inference_mode()(lambda: net(x)), size


def _network(package: str, name: str, options: dict):
    """With random weights that keep the signal's size, as MXNet's networks get: times depend on values."""
    import torch

    library = importlib.import_module(package)
    make = functools.partial(library.create_model, name) if package == "timm" else getattr(library.models, name)
    net = make(**options)
    torch.manual_seed(0)
    for value in net.parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value, mode="fan_in")
    return net.eval()


def _cost(net, image):
    """Parameters, and multiply-adds of convolutions and fully connected layers."""
    import torch

    madds = []

    def add(layer, inputs, output):
        madds.append(output.numel() * layer.weight[0].numel())

    layers = [layer for layer in net.modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with torch.no_grad():
        net(image)
    for hook in hooks:
        hook.remove()
    return sum(value.numel() for value in net.parameters()), sum(madds)


def _import_torchvision():
    """Import torchvision, also where its compiled operators were built for another PyTorch than the installed one.

    It then fails for two operators of object detection that are not there; networks that classify need none.
    """
    import torch

    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        declared = torch.library.Library("torchvision", "DEF")
        _KEPT.append(declared)
        for name in ("nms", "qnms"):
            declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision")
