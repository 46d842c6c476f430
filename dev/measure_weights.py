"""Measure published weights on photographs, here and in their source's own runtime; write it to results/weights.json.

    .venv/bin/python dev/measure_weights.py PHOTOGRAPHS.rec FOLDER [NAME ...]

FOLDER holds the published files. The source's runtimes are PyTorch with efficientnet-lite-pytorch, and ai-edge-litert
(`pip install --no-deps efficientnet-lite-pytorch==0.1.0 ai-edge-litert==2.3.0`), which nothing else here needs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np

from gluon_effnets.evaluate.validate import open_pair
from gluon_effnets.weights import convert, published_weights
from gluon_effnets.weights.published import PublishedWeights

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "results" / "weights.json"
Runtime = Callable[[np.ndarray], np.ndarray]  # images as the network wants them -> numbers of the 1000 classes


def pytorch(file: Path, weights: PublishedWeights, net) -> Runtime:
    """The port of EfficientNet-Lite that the checkpoints are of."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_name(weights.model.replace("_", "-"))
    theirs.load_state_dict(torch.load(file, weights_only=True))
    theirs.eval()

    def logits(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return theirs(torch.from_numpy(images)).numpy()

    return logits


def tensorflow_lite(file: Path, weights: PublishedWeights, net) -> Runtime:
    """TensorFlow Lite's own kernels on the file's whole numbers."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(file), experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    mean, std = (np.array(values)[:, None, None] for values in net.preprocessing[:2])

    def scores(images: np.ndarray) -> np.ndarray:
        rows = []
        for image in np.rint(images * std + mean).astype(given["dtype"]):
            interpreter.set_tensor(given["index"], image.transpose(1, 2, 0)[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(answer["index"])[0, 1:].astype(np.float32))
        return np.stack(rows)

    return scores


RUNTIMES = {"lukemelas": ("PyTorch, efficientnet_lite_pytorch", pytorch), "tflite": ("LiteRT", tensorflow_lite)}


def in_top(answers: np.ndarray, labels: np.ndarray, top: int) -> float:
    """Percentage of images whose label is among the `top` highest numbers."""
    best = np.argsort(-answers, axis=1, kind="stable")[:, :top]
    return round(100 * float((best == labels[:, None]).any(axis=1).mean()), 3)


def measure(weights: PublishedWeights, file: Path, photographs: str) -> Dict[str, Any]:
    """Accuracy here and in the source's runtime, and how far the two agree."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "weights.params")
        convert(weights.model, file, path, source=weights.source, **weights.options)
        net, data = open_pair(weights.model, path, f"recordio:{photographs}")
    runtime_name, make = RUNTIMES[weights.source]
    runtime = make(file, weights, net)
    ours: List[np.ndarray] = []
    theirs: List[np.ndarray] = []
    labels: List[np.ndarray] = []
    for images, label, answer in batches(net, data):
        ours.append(answer)
        theirs.append(runtime(images))
        labels.append(label)
    mine, other, truth = np.concatenate(ours), np.concatenate(theirs), np.concatenate(labels)
    same = (mine.argmax(axis=1) == other.argmax(axis=1)).mean()
    parity: Dict[str, Any] = {"runtime": runtime_name, "agreement": round(100 * float(same), 3)}
    parity.update(top1=in_top(other, truth, 1), top5=in_top(other, truth, 5))
    if weights.source == "lukemelas":
        parity["largest_logit_difference"] = float(f"{np.abs(mine - other).max():.1e}")
    command = f"python dev/measure_weights.py {Path(photographs).name} FOLDER {weights.name}"
    here = {"data": "1,000 photographs", "top1": in_top(mine, truth, 1), "top5": in_top(mine, truth, 5)}
    return {"here": [{**here, "date": datetime.date.today().isoformat(), "command": command}], "parity": parity}


def batches(net, data) -> Iterator[Any]:
    """Images, labels and our answers, batch by batch."""
    for batch in data.val_batches():
        count = batch.num_valid
        yield batch.data.asnumpy()[:count], batch.label.asnumpy()[:count], net(batch.data).asnumpy()[:count]


def main() -> None:
    """Measure the named rows, or all whose file is there."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photographs")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    for weights in published_weights():
        files = sorted(args.folder.rglob(Path(weights.file).name))
        if not files or (args.names and weights.name not in args.names):
            continue
        measured = measure(weights, files[0], args.photographs)
        table = json.loads(TABLE.read_text())
        for row in table["weights"]:
            if row["name"] == weights.name:
                row.update(measured)
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
        print(weights.name, json.dumps(measured))


if __name__ == "__main__":
    main()
