"""Train a DS-Net and its gate, and let the gate choose a width for each image.

    python examples/route_images.py                               # a small network on handwritten digits, minutes

A slimmable network holds several; its gate looks at the first maps of an image and chooses (arXiv 2103.13258).
Exported, each width is a graph of its own, and an image pays for the chosen one alone. What it leaves in --out: the
run, the routed files with their JSON file, routes.png (how many images go where, and how many of these are right), and
a picture of the images of every route.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Sequence

import numpy as np

from gluon_effnets import get_model
from gluon_effnets.__main__ import main as command
from gluon_effnets.complexity import count
from gluon_effnets.deploy import export_routed, load_routed
from gluon_effnets.pictures import load_pyplot, save_picture
from gluon_effnets.tables import Table
from gluon_effnets.train.config import DataSettings
from gluon_effnets.train.data import open_data


def route(described: Path, source: str, size: int):
    """Return the widths that the gate chooses for all evaluation images, and whether each answer is right."""
    router, widths, right = load_routed(described), [], []
    for batch in open_data(DataSettings(source=source, image_size=size), seed=0).val_batches():
        logits, decisions = router(batch.data[: batch.num_valid])
        answers = logits.asnumpy().argmax(1)
        widths.append(decisions)
        right.append(answers == batch.label[: batch.num_valid].asnumpy())
    return np.concatenate(widths), np.concatenate(right)


def draw(rows: Sequence[tuple], picture: Path) -> None:
    """Draw how many images are sent to each width, and what each width costs."""
    plt = load_pyplot(str(picture))
    figure, axis = plt.subplots(figsize=(6, 3.5))
    labels = [f"width {row[0]}\n{row[1]:.2f} M MAdds" for row in rows]
    axis.bar(labels, [row[2] for row in rows], label="wrong", color="tab:red")
    axis.bar(labels, [row[2] * (row[3] or 0) for row in rows], label="right", color="tab:green")
    axis.set(ylabel="images", title="Where the gate sends them")
    axis.legend()
    figure.tight_layout()
    save_picture(figure, picture)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/route_images"), help="Where all of it goes.")
    parser.add_argument("--model", default="ds_mobilenet_spread", help="A slimmable network with one gate.")
    parser.add_argument("--data", default="digits", help="As train_imagenet.py takes them.")
    parser.add_argument("--image-size", type=int, default=32, help="Side of the images, in pixels.")
    parser.add_argument("--batch-size", type=int, default=128, help="Images of an update.")
    parser.add_argument("--epochs", type=int, default=12, help="Of the supernet; the gate learns for a fifth of them.")
    parser.add_argument("--set", action="append", default=[], help="A key of the recipe, as in train_imagenet.py.")
    args = parser.parse_args(argv)

    run, name = args.out / "run", args.model
    words = ["train", "--config", "ds_mobilenet_v1.cifar10.yaml", "--model", name, "--data", args.data]
    settings: List[str] = [
        f"data.image_size={args.image_size}",
        f"data.batch_size={args.batch_size}",
        f"stages.supernet.duration={args.epochs}ep",
        f"stages.gate.duration={max(1, args.epochs // 5)}ep",
        *args.set,
    ]
    if command([*words, "--out", str(run), "--fresh", *(f"--set={setting}" for setting in settings)]):
        return 1

    weights = run / "gate" / f"{name}.params"  # of the last of the three stages
    net = get_model(name, pretrained=weights)
    described = export_routed(net, args.out / "routed", args.image_size)
    chosen, right = route(described, args.data, args.image_size)
    rows = []
    for width in load_routed(described).widths:
        sent = chosen == width
        share = float(right[sent].mean()) if sent.any() else None
        rows.append((width, count(net.subnet(width), args.image_size).madds / 1e6, int(sent.sum()), share))
    print("\n" + Table(["width", ("MAdds, M", ".2f"), "images", ("right", ".1%")], rows).text())
    madds = {width: cost for width, cost, *_ in rows}
    print(f"all: {right.mean():.1%} right, {np.mean([madds[width] for width in chosen]):.2f} M MAdds for an image")
    draw(rows, args.out / "routes.png")
    source = ["--data", args.data, "--set", f"data.image_size={args.image_size}"]
    code = command(["plot", "routes", name, str(weights), str(args.out / "images"), *source])
    print(f"\n{args.out / 'routes.png'}\n{described}")
    return code


if __name__ == "__main__":
    sys.exit(main())
