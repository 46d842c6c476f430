"""Fine-tune a network on a folder with a class per subfolder, and look at the result.

    python examples/fine_tune_a_folder.py                          # minutes on a CPU, without any files
    python examples/fine_tune_a_folder.py --images birds --weights weights.params --image-size 224

Without --images, handwritten digits of scikit-learn become such a folder: 5 to 9 are the classes to learn, and 0 to 4
train the weights to start from. What it leaves in --out: the folder, the run with report.html, the confusion matrix,
and answers.png with held-out images and what the network says of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Sequence

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from gluon_effnets.__main__ import main as command
from gluon_effnets.evaluate.predict import Classifier, best, read_image
from gluon_effnets.pictures import load_pyplot, save_picture


def write_digits(folder: Path, digits: Sequence[int], per_class: int, side: int) -> None:
    """Write the first images of some digits as PNG files: FOLDER/CLASS/NUMBER.png."""
    bunch = load_digits()
    for digit in digits:
        (folder / f"digit_{digit}").mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(bunch.images[bunch.target == digit][:per_class]):
            gray = Image.fromarray((image * (255 / 16)).astype(np.uint8))
            gray.resize((side, side), Image.BILINEAR).convert("RGB").save(
                folder / f"digit_{digit}" / f"{number:03}.png"
            )


def train(out: Path, config: str, model: str, images: Path, settings: Sequence[str]) -> None:
    """Train as the command line does; what is wrong with the words or the images has been said by then."""
    words = ["train", "--config", config, "--model", model, "--data", f"folder:{images}", "--out", str(out), "--fresh"]
    if command(words + [f"--set={setting}" for setting in settings]):
        sys.exit(f"{config} did not train")


def draw_answers(classifier: Classifier, paths: Sequence[Path], picture: Path) -> None:
    """Draw images with the name and the probability of the first answer, red where it is wrong."""
    plt = load_pyplot("answers.png")
    rows = -(-len(paths) // 6)
    figure, axes = plt.subplots(rows, 6, figsize=(9, 1.9 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, path in zip(axes.flat, paths):
        ((number, probability),) = best(classifier(path), 1)
        name = classifier.names[number]
        axis.imshow(read_image(path))
        right = name == path.parent.name
        axis.set_title(f"{name}\n{probability:.0%}", fontsize=8, color="green" if right else "red")
    figure.tight_layout()
    save_picture(figure, picture)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/fine_tune_a_folder"), help="Where all of it goes.")
    parser.add_argument("--images", type=Path, help="A folder with a class per subfolder (default: the digits 5 to 9).")
    parser.add_argument("--weights", help="A .params file (default: train one on the digits 0 to 4).")
    parser.add_argument("--model", default="mobilenet_v3_small", help="The network.")
    parser.add_argument("--image-size", type=int, default=32, help="Side of the network's images, in pixels.")
    parser.add_argument("--per-class", type=int, default=200, help="Digits of each class.")
    parser.add_argument("--batch-size", type=int, default=32, help="Images of an update.")
    parser.add_argument("--epochs", type=int, default=6, help="Of each of the two trainings.")
    args = parser.parse_args(argv)

    images = args.images or args.out / "images"
    if args.images is None:
        write_digits(images, range(5, 10), args.per_class, args.image_size)
    usual: List[str] = [f"data.image_size={args.image_size}", f"data.batch_size={args.batch_size}"]
    usual += [f"duration={args.epochs}ep", "schedule.warmup=0.1run"]
    usual += [] if args.images else ["data.augment=shift"]  # a mirrored digit is none
    weights = args.weights
    if weights is None:
        others = args.out / "other_images"
        write_digits(others, range(5), args.per_class, args.image_size)
        train(args.out / "weights", "own_images.yaml", args.model, others, usual)
        weights = str(args.out / "weights" / f"{args.model}.params")

    run = args.out / "run"
    train(run, "fine_tune.yaml", args.model, images, [*usual, f"pretrained={weights}"])
    described, data = str(run / f"{args.model}.json"), f"folder:{images}"
    code = command(["validate", described, "--data", data, "--confusion", str(args.out / "confusion.png")])
    held_out = [images / line for line in (run / "held_out.txt").read_text().splitlines()]
    step = max(1, len(held_out) // 24)
    classifier = Classifier(args.model, str(run / f"{args.model}.params"))
    draw_answers(classifier, held_out[::step][:24], args.out / "answers.png")
    print(f"\n{run / 'report.html'}\n{args.out / 'confusion.png'}\n{args.out / 'answers.png'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
