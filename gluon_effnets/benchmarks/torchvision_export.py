"""Writes torchvision's own ssdlite320_mobilenet_v3_large as ONNX files, by whichever interpreter has torchvision.

    python - STATE.npz CLASSES FOLDER < torchvision_export.py

STATE.npz are its parameters by torchvision's keys. FOLDER gets heads.onnx, all-boxes.onnx and detections.onnx, each
from one normalized image, named `data`: what torchvision does to images before its network is left out. The last line
of the output are the versions, as JSON. Needs PyTorch, torchvision and NumPy alone.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

SIZE = 320


class Heads(torch.nn.Module):
    """Logits and offsets of all anchors, as torchvision computes them before it decodes."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def outputs(self, image):
        maps = list(self.net.backbone(image).values())
        return self.net.head(maps), self.net.anchor_generator(ImageList(image, [(SIZE, SIZE)]), maps)

    def forward(self, image):
        found, _ = self.outputs(image)
        return found["cls_logits"], found["bbox_regression"]


class AllBoxes(Heads):
    """Boxes and scores of all anchors."""

    def forward(self, image):
        found, [anchors] = self.outputs(image)
        boxes = self.net.box_coder.decode_single(found["bbox_regression"][0], anchors)
        boxes = clip_boxes_to_image(boxes, (SIZE, SIZE))
        return boxes[None], found["cls_logits"].softmax(-1)


class Detections(Heads):
    """Boxes, scores and classes of the chosen ones."""

    def forward(self, image):
        found, anchors = self.outputs(image)
        [chosen] = self.net.postprocess_detections(found, anchors, [(SIZE, SIZE)])
        return chosen["boxes"], chosen["scores"], chosen["labels"]


FORMS = {"heads": Heads, "all-boxes": AllBoxes, "detections": Detections}


def main(state: str, classes: str, folder: str) -> None:
    net = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=int(classes) + 1).eval()
    values = {key: torch.tensor(value) for key, value in np.load(state).items()}
    missing = [key for key in net.load_state_dict(values, strict=False).missing_keys if "num_batches" not in key]
    if missing:
        raise ValueError(f"torchvision's detector has {missing[0]}, which is not given")
    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constants in traces, and that the exporter is an old one
        for form, module in FORMS.items():
            path = str(Path(folder) / f"{form}.onnx")
            # The newer exporter refuses sizes that depend on values, as the number of chosen boxes does.
            torch.onnx.export(module(net).eval(), (image,), path, input_names=["data"], opset_version=18, dynamo=False)
    print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
