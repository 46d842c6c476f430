"""Writes a condensed CondenseNet plainly in PyTorch, exports it, and times it beside other files in two runtimes.

Started by its path in any Python that has torch, onnxscript, and onnxruntime or openvino; it imports nothing of the
package. The first argument is JSON: {"layers": [[KIND, {SETTING: NUMBER}], ...], "arrays": PATH of the layers' arrays
as `.npz`, "files": {LABEL: PATH}, "threads": N, "batch": N, "repeats": N, "image": [C, H, W], "clock": "perf_counter"
or "process_time"}; the last line of the output is {"versions": {NAME: VERSION}, "rows": [[LABEL, RUNTIME,
[MILLISECONDS, ...], DIFFERENCE], ...]}.
"""

import importlib
import json
import os
import sys
import tempfile
import time

import numpy as np

PLAIN = "PyTorch, scatter-add, exported by torch.onnx"


def plain_network(layers, arrays):
    """The network as one would write it: index_select, grouped convolutions and index_add."""
    import torch
    from torch.nn import functional as f

    def norm(x, a, name, settings):
        gamma, beta, mean, variance = (a[f"{name}_{part}"] for part in ("gamma", "beta", "mean", "variance"))
        return f.batch_norm(x, mean, variance, gamma, beta, eps=settings[f"{name}_eps"])

    def shuffle(x, groups):
        return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)

    def gated(x, a):
        hidden = torch.relu(f.conv2d(x.mean((2, 3), keepdim=True), a["se_reduce"]))
        return x * torch.sigmoid(f.conv2d(hidden, a["se_expand"]))

    def dense_layer(x, a, s):
        act = f.hardswish if s["hard_swish"] else torch.relu
        y = f.conv2d(act(norm(x.index_select(1, a["index"]), a, "select", s)), a["reduce"], groups=s["groups"])
        y = act(norm(shuffle(y, s["groups"]), a, "norm", s))
        new = f.conv2d(y, a["conv"], padding=1, groups=s["conv_groups"])
        new = gated(new, a) if "se_reduce" in a else new
        if "update" in a:
            z = shuffle(act(norm(new, a, "update_norm", s)), new.shape[1] // s["update_groups"])
            x = x.index_add(1, a["target"], f.conv2d(z, a["update"], groups=s["update_groups"]))
        return torch.cat((x, new), 1)

    def head(x, a, s):
        x = torch.relu(norm(x, a, "norm", s)).mean((2, 3), keepdim=True)
        x = (gated(x, a) if "se_reduce" in a else x).flatten(1)
        if "hidden" in a:
            x = f.hardswish(f.linear(x, a["hidden"], a["hidden_bias"]))
        return f.linear(x, a["output"], a["output_bias"])

    kinds = {
        "stem": lambda x, a, s: f.conv2d(x, a["weight"], stride=s["stride"], padding=1),
        "pool": lambda x, a, s: f.avg_pool2d(x, 2),
        "layer": dense_layer,
        "head": head,
    }

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in arrays.items():
                self.register_buffer(name.replace(".", "__"), torch.from_numpy(value))

        def forward(self, x):
            for number, (kind, settings) in enumerate(layers):
                begin = f"{number}__"
                own = {name[len(begin) :]: value for name, value in self.named_buffers() if name.startswith(begin)}
                x = kinds[kind](x, own, settings)
            return x

    return Network().eval()


def in_onnxruntime(path, x, threads):
    """A call that gives the logits of a file for `x`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    return lambda: session.run(None, {given.name: x})[0]


def in_openvino(path, x, threads):
    """The same in OpenVINO, in float32."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({model.inputs[0]: list(x.shape)})
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda: next(iter(request.infer([x]).values()))


def main() -> None:
    """Do what the first argument says."""
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))  # where `profile` is another module than Python's
    job = json.loads(sys.argv[1])
    x = np.random.RandomState(0).standard_normal((job["batch"], *job["image"])).astype(np.float32)
    clock, calls, versions = getattr(time, job["clock"]), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        import torch

        plain = f"{folder}/plain.onnx"
        with np.load(job["arrays"]) as arrays:
            network = plain_network(job["layers"], dict(arrays))
        torch.onnx.export(network, (torch.from_numpy(x),), plain, external_data=False, dynamo=True)
        versions["torch"] = torch.__version__
        for name, runtime in (("onnxruntime", in_onnxruntime), ("openvino", in_openvino)):
            try:
                versions[name] = importlib.import_module(name).__version__
            except ImportError:
                continue
            for label, path in {PLAIN: plain, **job["files"]}.items():
                calls[label, name] = runtime(path, x, job["threads"])
    expected = next(iter(calls.values()))()
    times: dict = {key: [] for key in calls}
    for number in range(job["repeats"] + 1):
        for key, call in calls.items():
            begin = clock()
            call()
            if number:  # the first call warms up
                times[key].append((clock() - begin) * 1e3)
    rows = [
        (*key, values, float(np.abs(calls[key]() - expected).max() / expected.std())) for key, values in times.items()
    ]
    print("\n" + json.dumps({"versions": versions, "rows": rows}))


if __name__ == "__main__":
    main()
