"""Runs and quantizes ONNX files in another interpreter, for int8_accuracy.py: JSON lines on its standard streams.

Started by path as `python int8_worker.py onnxruntime|openvino|nncf`; it imports nothing of the package. Arrays come and
go as .npy files.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import time

import numpy as np

THREADS = int(os.environ.get("OMP_NUM_THREADS", 0))


def quantize(job: dict) -> dict:
    """Write job['file'] in 8 bits as job['out'], by NNCF's own recipe for processors, with ranges of job['images']."""
    import nncf
    import onnx

    nncf.set_log_level(logging.ERROR)
    images = np.load(job["images"])
    dataset = nncf.Dataset([image[None] for image in images], lambda image: {"data": image})
    model = nncf.quantize(onnx.load(job["file"]), dataset, subset_size=len(images))
    onnx.save(model, job["out"])
    return {}


def opened(runtime: str, file: str):
    """The function (N, C, H, W) -> logits of a file."""
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = THREADS, 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"data": images})[0]
    import openvino

    # In float32 as elsewhere: processors with operations on bfloat16 would take these.
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(file, "CPU", options).create_infer_request()
    return lambda images: request.infer([images])[0]


def fastest(calls: dict, repeats: int) -> dict:
    """Milliseconds of calls in turn, the least of each."""
    least = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            call()
            begin = time.perf_counter()
            call()
            least[name] = min(least[name], 1e3 * (time.perf_counter() - begin))
    return least


def main() -> None:
    """Answer the parent's requests until its end of the pipe closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    runtime, runs = sys.argv[1], {}  # type: str, dict
    for line in sys.stdin:
        job = json.loads(line)
        try:
            if job["do"] == "quantize":
                found = quantize(job)
            elif job["do"] == "open":
                runs.update((name, opened(runtime, file)) for name, file in job["files"].items())
                found = {}
            elif job["do"] == "logits":
                np.save(job["out"], runs["int8"](np.load(job["images"])))
                found = {}
            else:
                image = np.load(job["images"])[:1]
                calls = {name: functools.partial(run, image) for name, run in runs.items()}
                found = fastest(calls, job["repeats"])
            answers.write(json.dumps(found) + "\n")
        except Exception as error:  # whatever fails is told, not raised
            answers.write(json.dumps({"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}) + "\n")


if __name__ == "__main__":
    main()
