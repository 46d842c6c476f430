"""What official networks are here, and the files with their logits: GLUON_EFFNETS_PARITY before the committed ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import detrand
import mxnet as mx
import numpy as np

from gluon_effnets import complexity, get_model
from gluon_effnets.weights import load_official

COMMITTED = Path(__file__).parents[1] / "fixtures" / "parity"
# The official MobileNeXts with SE hold a BN behind the last block that they never use.
UNUSED_BN = 2 * 1280
LINEAR = {"extra_act": None}


class Reference(NamedTuple):
    """What an official network is here, and how far float32 rounding takes its logits from the exact ones.

    Much for MobileNetV3-Large and MobileNeXt: with random weights they are ill-conditioned.
    """

    model: str
    source: str
    options: dict = {}
    tolerance: float = 1e-4
    unused: int = 0


OF_LIBRARIES = {
    "timm_mobilenetv3_large_100": Reference("mobilenet_v3_large", "timm", tolerance=1e-3),
    "timm_mobilenetv3_small_100": Reference("mobilenet_v3_small", "timm"),
    "timm_efficientnet_b0": Reference("efficientnet_b0", "timm"),
    "timm_tf_mobilenetv3_large_100": Reference("mobilenet_v3_large", "timm_tf", tolerance=1e-3),
    "timm_tf_mobilenetv3_small_100": Reference("mobilenet_v3_small", "timm_tf"),
    "timm_tf_efficientnet_b0": Reference("efficientnet_b0", "timm_tf"),
    "torchvision_mobilenet_v3_large": Reference("mobilenet_v3_large", "torchvision", tolerance=5e-3),
    "torchvision_mobilenet_v3_small": Reference("mobilenet_v3_small", "torchvision"),
    "torchvision_efficientnet_b0": Reference("efficientnet_b0", "torchvision"),
    "lukemelas_efficientnet-b0": Reference("efficientnet_b0", "lukemelas"),
    "lukemelas_efficientnet-lite1": Reference("efficientnet_lite1", "lukemelas"),
    "lukemelas_efficientnet-lite2": Reference("efficientnet_lite2", "lukemelas"),
    "shufflenetv1_g1_1.0x": Reference("shufflenet_v1_g1_x1_0", "megvii_v1"),
    "shufflenetv1_g3_1.0x": Reference("shufflenet_v1_g3_x1_0", "megvii_v1"),
    "shufflenetv1_g3_1.0x_noshuffle": Reference("shufflenet_v1_g3_x1_0", "megvii_v1", {"shuffle": "none"}),
    "shufflenetv1_g8_0.5x": Reference("shufflenet_v1_g8_x0_5", "megvii_v1"),
    "shufflenetv1_arch2_g8_0.5x_tensorpack": Reference("shufflenet_v1_arch2_g8_x0_5", "megvii_v1"),
    "megvii_shufflenetv2_1.0x": Reference("shufflenet_v2_x1_0", "megvii_v2"),
    "torchvision_shufflenet_v2_x1_0": Reference("shufflenet_v2_x1_0", "torchvision", {"definition": "torchvision"}),
}
OF_MOBILENEXT = {
    "mobilenext_w050": Reference("mobilenext_x0_5", "mobilenext", tolerance=1e-3),
    "mobilenext_w100": Reference("mobilenext_x1_0", "mobilenext", tolerance=1e-3),
    "mobilenext_w100_id2": Reference("mobilenext_x1_0", "mobilenext", {"identity_divisor": 2}, 1e-3),
    "mobilenext_s_b0": Reference("mobilenext_s", "mobilenext_se", tolerance=5e-3, unused=UNUSED_BN),
    "ablation_fig4b_two_dw_in_bottleneck": Reference("mobilenext_fig4b", "mobilenext", tolerance=1e-3),
    "ablation_extra_1x1": Reference("mobilenext_extra_1x1", "mobilenext", tolerance=1e-3),
    "ablation_bottleneck_se": Reference("mobilenext_bottleneck_se", "mobilenext", tolerance=1e-3),
    "ablation_low_identity": Reference("mobilenext_low_identity", "mobilenext", tolerance=1e-3),
    "ablation_low_shortcut": Reference("mobilenext_low_shortcut", "mobilenext_low_shortcut", tolerance=1e-3),
    "ablation_first_dw_removed": Reference("mobilenext_without_first_dw", "mobilenext", tolerance=1e-3),
    "ablation_t4_config": Reference("mobilenext_ratio_4", "mobilenext", tolerance=1e-3),
    "mobilenext_l_b1_g2_240": Reference("mobilenext_l", "mobilenext_se", tolerance=5e-3, unused=UNUSED_BN),
    "mobilenetv2_w100": Reference("mobilenet_v2", "torchvision"),
    "mobilenetv2_extra_dw_relu6": Reference("mobilenet_v2_extra_dw", "mobilenet_v2_extra"),
    "mobilenetv2_extra_dw_linear": Reference("mobilenet_v2_extra_dw", "mobilenet_v2_extra", LINEAR),
    "mobilenetv2_extra_dw_linear_flat": Reference("mobilenet_v2_extra_dw", "mobilenet_v2_extra_linear", LINEAR),
}


def path(name: str) -> Path:
    more = os.environ.get("GLUON_EFFNETS_PARITY")
    found = [Path(more) / f"{name}.json"] if more else []
    return next((one for one in found if one.is_file()), COMMITTED / f"{name}.json")


def present(references: Dict[str, Reference]) -> List[str]:
    """Names of the references whose files are here, sorted."""
    return sorted(name for name in references if path(name).is_file())


def read(name: str) -> Dict[str, Any]:
    return json.loads(path(name).read_text())


def official(name: str) -> Dict[str, np.ndarray]:
    """The state dict of a reference."""
    return detrand.state(read(name))


def deviation(ours: np.ndarray, official: np.ndarray) -> float:
    """Largest difference of a logit, in standard deviations of the logits over the classes."""
    return float((np.abs(ours - official).max(axis=1) / official.std(axis=1)).max())


def compare(reference: Reference, data: Dict[str, Any]) -> None:
    """Assert that a network of ours has the logits, parameters and multiply-adds in the file of the official one."""
    # References computed in float64 leave no rounding to allow for, whatever the network.
    exact = data.get("precision") == "float64"
    tolerance = 1e-4 if exact else reference.tolerance
    # Ours in float64 where float32 would add to the rounding of the reference.
    dtype = "float64" if exact or reference.tolerance > 1e-4 else "float32"

    net = get_model(reference.model, **reference.options)
    source = reference.source if reference.source.startswith("timm") else None
    assert load_official(net, detrand.state(data), source) == reference.source
    net.cast(dtype)
    net.hybridize()
    logits = net(mx.nd.array(detrand.images(**data["input"]), dtype=dtype)).asnumpy()

    assert deviation(logits, np.array(data["logits"])) < tolerance
    cost = complexity.count(net, data["input"]["size"])
    assert (cost.params, cost.madds) == (data["params"], data["madds"])
