"""Undamaged files of every kind, of networks that take milliseconds."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

CLASSES = ["ant", "bee", "fly"]
SIDE = 32
TFLITE_MODEL = "mobilenet_v1_x0_25"
TORCH_MODEL = "mobilenet_v2_x0_35"
DETECTOR = "detector_tiny"  # which importing tests/support/detection_runs.py registers
DETECTOR_SIDE = 64
REGIONS = "faster_rcnn_mobilenet_v1_x0_25"
DETECTOR_EXPORTS = {
    "detector-mxnet": {},
    "detector-mxnet-all": {"all_boxes": True},
    "detector-onnx": {"format": "onnx"},
    "detector-onnx-all": {"format": "onnx", "all_boxes": True},
}


def make_all(folder: Path) -> None:
    """Make them in a child, since a process that computed with MXNet forks no more."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with contextlib.redirect_stdout(open(folder / "made.log", "w")):
                _images(folder)
                _networks(folder)
                _run(folder)
                _boxed(folder)
                _detectors(folder)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the undamaged files could not be made")


def given(folder: Path, place: Path, *names: str) -> Path:
    """Give a case some of the files, as hard links; return the place of the first."""
    for name in names:
        source, target = folder / name, place / Path(name).name
        if source.is_dir():
            shutil.copytree(source, target, copy_function=os.link)
        else:
            os.link(source, target)
    return place / Path(names[0]).name


def put(path: Path, content: bytes) -> Path:
    """Replace a file that may be a hard link."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    path.write_bytes(content)
    return path


def _images(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    from gluon_effnets.runtime.commands import main as runtime

    draw = np.random.RandomState(0)
    small = draw.randint(0, 255, (5, 6, 3)).astype(np.uint8)
    photo = Image.fromarray(small).resize((48, 40), Image.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("png", "jpg", "bmp", "webp"):
        photo.save(folder / f"photo.{suffix}", exif=exif if suffix in ("jpg", "webp") else None)
    for split in ("train", "val"):
        for label, name in enumerate(CLASSES):
            (folder / "images" / split / name).mkdir(parents=True)
            for number in range(3):
                picture = Image.fromarray(draw.randint(0, 255, (20, 20 + label, 3)).astype(np.uint8))
                picture.save(folder / "images" / split / name / f"{number}.{('png', 'jpg', 'bmp')[number]}")
        (folder / "records").mkdir(exist_ok=True)
        assert (
            runtime(["records", "pack", str(folder / "images" / split), str(folder / "records" / f"{split}.rec")]) == 0
        )
    listing = "".join(f"{n}\t{n % 3}.000000\t{CLASSES[n % 3]}/{n}.jpg\n" for n in range(9))
    (folder / "train.lst").write_text(listing)
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in CLASSES))


def _networks(folder: Path) -> None:
    import mxnet as mx
    import numpy as np
    import tflite_files
    from networks import trained

    from gluon_effnets import get_model
    from gluon_effnets.deploy import export, export_routed
    from gluon_effnets.models import Preprocessing
    from gluon_effnets.weights import write_official

    net = trained("idle_tiny", classes=3)
    net.preprocessing, net.classes = Preprocessing(image_size=SIDE), CLASSES
    net.save_parameters(str(folder / "sealed.params"))
    arrays = {key: param.data() for key, param in net._collect_params_with_prefix().items()}
    mx.nd.save(str(folder / "bare.params"), arrays)
    for kind in ("mxnet", "onnx"):
        (folder / kind).mkdir()
        export(net, folder / kind / "net", SIDE, format=kind)
    (folder / "int8").mkdir()
    images = [np.random.RandomState(n).standard_normal((8, 3, SIDE, SIDE)).astype("float32") for n in range(4)]
    export(net, folder / "int8" / "net", SIDE, int8=images)
    gated = trained("ds_mobilenet_tiny", classes=3)
    gated.preprocessing = Preprocessing(image_size=SIDE)
    for kind, options in (
        ("mxnet", {}),
        ("onnx", {"format": "onnx"}),
        ("single", {"format": "onnx", "single_file": True}),
    ):
        (folder / f"routed-{kind}").mkdir()
        export_routed(gated, folder / f"routed-{kind}" / "net", SIDE, **options)
    other = trained(TORCH_MODEL, classes=3)
    for name in ("timm.pth", "timm.safetensors", "timm.npz"):
        with contextlib.suppress(ImportError):
            write_official(other, folder / name, "timm")
    options = {"act": "relu6", "padding": "same", "bn_epsilon": 1e-3}
    layers = tflite_files.layers_of(tflite_files.trained_like(get_model(TFLITE_MODEL, classes=3, **options)))
    tflite_files.write(folder / "net.tflite", layers)


def _run(folder: Path) -> None:
    """A finished run with two checkpoints and moving averages."""
    from recipes import STAGED, TINY

    from gluon_effnets.__main__ import main

    (folder / "tiny.yaml").write_text(TINY)
    (folder / "staged.yaml").write_text(STAGED)
    command = ["train", "--config", str(folder / "tiny.yaml"), "--out", str(folder / "run")]
    assert main([*command, "--set", "hooks.ema={decay: 0.9}"]) == 0


def _boxed(folder: Path) -> None:
    """The same images with boxes in each of the layouts that are read."""
    from boxed import drawn, write_coco, write_detrec, write_voc

    names = CLASSES[:2]
    parts = {"train": drawn(9), "val": drawn(4, first=20)}
    write_voc(folder / "voc", parts, names)
    (folder / "voc" / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    write_coco(folder / "coco", parts, names)
    write_detrec(folder / "detrec", parts, names)


def _detectors(folder: Path) -> None:
    """Weights of two kinds of detectors, and a small one exported in every form."""
    import mxnet as mx
    from detection_runs import TINY_DETECTION
    from detectors import trained_detector

    from gluon_effnets.deploy import export

    (folder / "detection.yaml").write_text(TINY_DETECTION)
    for name in (DETECTOR, REGIONS):
        net = trained_detector(name, CLASSES[:2])
        net.save_parameters(str(folder / f"{name}.params"))
        arrays = {key: param.data() for key, param in net._collect_params_with_prefix().items()}
        mx.nd.save(str(folder / f"{name}-bare.params"), arrays)
        if name == DETECTOR:
            for kind, options in DETECTOR_EXPORTS.items():
                (folder / kind).mkdir()
                export(net, folder / kind / "net", **options)
