"""Networks in PyTorch: eager, frozen, compiled, in two memory layouts, and exported to ONNX; for worker.py.

They are torchvision's and timm's, or of an outline, which torch_modules.py builds.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import platform
import sys
import warnings

# Declarations of operators go when they are collected.
_KEPT = []


def versions() -> dict:
    """Import PyTorch, and torchvision if it is there; the versions of what the times depend on."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes that nobody stops
    import numpy
    import torch

    found = {"torch": torch.__version__, "numpy": numpy.__version__, "python": platform.python_version()}
    try:
        return {**found, "torchvision": _import_torchvision().__version__}
    except ImportError:
        return found


def build(job: dict, threads: int):
    """A call of the network of `job`, see `_network`, on job['shape'] in job['form']."""
    import torch

    torch.set_num_threads(threads)
    net, x = _network(job)
    form, size = job["form"], sum(value.nbytes for value in net.state_dict().values())
    if form.endswith("channels-last"):
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if form.startswith("compile"):
        import torch._inductor.config as inductor

        inductor.freezing = True  # weights are constants then, and convolutions get BN and activation
        return torch.no_grad()(functools.partial(torch.compile(net), x)), size
    if form.startswith("jit"):
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is deprecated; nothing else is as fast without a compiler
            net = torch.jit.freeze(torch.jit.trace(net, x))
            if "optimized" in form:  # faster for MobileNetV2, slower for MobileNetV3
                net = torch.jit.optimize_for_inference(net)
    return torch.inference_mode()(lambda: net(x)), size


def export(job: dict) -> None:
    """Write the network of `job`, see `_network`, as the ONNX file job['file'], by what PyTorch exports with."""
    import torch

    net, x = _network(job)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"dynamo": True, "external_data": False, "verbose": False} if _has_new_exporter(torch) else {}
        torch.onnx.export(net, (x,), f"{job['file']}.part", input_names=["data"], **options)
    os.replace(f"{job['file']}.part", job["file"])  # what is there is whole: it may be taken by a later run


def _has_new_exporter(torch) -> bool:
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)


def _network(job: dict):
    """The network of job['builder'] (a package, a function and its options) or job['outline'], and a batch for it.

    The outline stands in where the builder's package is missing or has another network of this name. Raises
    ValueError unless it has job['params'] parameters and job['madds'] multiply-adds (None: not compared).
    """
    import torch

    x = torch.randn(job["shape"], generator=torch.Generator().manual_seed(0))
    makers = [functools.partial(_of_library, *job["builder"])] if job.get("builder") else []
    if job.get("outline"):
        makers.append(functools.partial(_of_outline, job["torch_modules"], job["outline"]))
    for make in makers:
        last = make is makers[-1]
        try:
            net = _with_weights(make())
        except ImportError:
            if last:
                raise
            continue
        cost = _cost(net, x[:1])
        if cost[0] == job["params"] and job["madds"] in (None, cost[1]):
            return net, x
        if last:
            raise ValueError(
                f"{job['what']} is another network: {cost[0]:,} parameters and {cost[1]:,} multiply-adds "
                f"there, {job['params']:,} and {job['madds'] or 0:,} here"
            )
    raise ValueError("no network to build")


def _of_library(package: str, name: str, options: dict):
    library = _import_torchvision() if package == "torchvision" else importlib.import_module(package)
    make = functools.partial(library.create_model, name) if package == "timm" else getattr(library.models, name)
    return make(**options)


def _of_outline(path: str, outline: list):
    spec = importlib.util.spec_from_file_location("torch_modules", path)
    assert spec and spec.loader, path
    modules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(modules)
    return modules.build(outline)


def _with_weights(net):
    """Random ones that keep the signal's size, as MXNet's networks get: times depend on values."""
    import torch

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
