"""Train a CondenseNetV2, prune it on the way, condense it, and export what is left.

    python examples/condense_a_condensenet.py                      # a small network on handwritten digits, minutes
    python examples/condense_a_condensenet.py --model condensenet_v2_a --data recordio:DIR --set data.image_size=224

The hook `sparsify` drops a quarter of the connections at a time (arXiv 2104.04382). Afterwards every masked layer is a
grouped convolution and an index: fewer weights, equal logits. What it leaves in --out: the run with sparsity.png, the
export with its JSON file, and reuse.png, which earlier layers each layer still reads.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Sequence

import mxnet as mx
import numpy as np

from gluon_effnets import get_model
from gluon_effnets.__main__ import main as command
from gluon_effnets.complexity import count
from gluon_effnets.models.condense import condense
from gluon_effnets.tables import Table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/condense_a_condensenet"), help="Where all of it goes.")
    parser.add_argument("--model", default="condensenet_v2_tiny", help="A CondenseNet with masked layers.")
    parser.add_argument("--data", default="digits", help="As train_imagenet.py takes them.")
    parser.add_argument("--epochs", type=int, default=20, help="Of training, the first half of which prunes.")
    parser.add_argument("--format", choices=("mxnet", "onnx"), default="mxnet", help="Of the export.")
    parser.add_argument("--set", action="append", default=[], help="A key of the recipe, as in train_imagenet.py.")
    args = parser.parse_args(argv)

    run, name = args.out / "run", args.model
    words = ["train", "--config", "digits.yaml", "--model", name, "--data", args.data, "--out", str(run), "--fresh"]
    settings = [f"duration={args.epochs}ep", "hooks={sparsify: {}}", *args.set]
    if command(words + [f"--set={setting}" for setting in settings]):
        return 1

    weights = run / f"{name}.params"
    masked = get_model(name, pretrained=weights)
    condensed = condense(masked)
    size = masked.preprocessing.image_size or masked.info.input_size
    x = mx.nd.array(np.random.RandomState(0).standard_normal((4, masked.in_channels, size, size)))
    before, after = masked(x).asnumpy(), condensed(x).asnumpy()
    rows = [(form, *count(net, size)[:2]) for form, net in (("masked", masked), ("condensed", condensed))]
    print("\n" + Table(["form", ("parameters", ","), ("multiply-adds", ",")], rows).text())
    print(f"largest difference of the logits: {np.abs(before - after).max() / before.std():.0e} of their deviation\n")

    exported = str(args.out / "condensed")
    code = command(["export", name, str(weights), exported, "--condense", "--format", args.format])
    code = code or command(["plot", "reuse", name, str(weights), str(args.out / "reuse.png")])
    print(f"\n{run / 'sparsity.png'}\n{args.out / 'reuse.png'}\n{exported}.json")
    return code


if __name__ == "__main__":
    sys.exit(main())
