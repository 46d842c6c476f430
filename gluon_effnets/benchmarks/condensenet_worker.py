"""Exports a program of PyTorch to ONNX, and times it beside other files in ONNX Runtime and OpenVINO.

Started by its path in any Python that has torch, onnxscript and one of the runtimes; it imports nothing of the package.
The first argument is JSON: {"program": PATH, "files": {LABEL: PATH}, "threads": N, "batch": N, "repeats": N,
"image": [C, H, W], "clock": "perf_counter" or "process_time"}; the last line of the output is
{"versions": {NAME: VERSION}, "rows": [[LABEL, RUNTIME, [MILLISECONDS, ...], DIFFERENCE], ...]}.
"""

import importlib
import json
import sys
import tempfile
import time

import numpy as np

PLAIN = "PyTorch, scatter-add, exported by torch.onnx"


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
    job = json.loads(sys.argv[1])
    x = np.random.RandomState(0).standard_normal((job["batch"], *job["image"])).astype(np.float32)
    clock, calls, versions = getattr(time, job["clock"]), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        import torch

        plain = f"{folder}/plain.onnx"
        torch.onnx.export(torch.export.load(job["program"]), (), plain, external_data=False)
        versions["torch"] = torch.__version__
        for name, runtime in (("onnxruntime", in_onnxruntime), ("openvino", in_openvino)):
            try:
                versions[name] = importlib.import_module(name).__version__
            except ImportError:
                continue
            for label, path in {PLAIN: plain, **job["files"]}.items():
                calls[label, name] = runtime(path, x, job["threads"])
    expected = next(iter(calls.values()))()
    times = {key: [] for key in calls}
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
