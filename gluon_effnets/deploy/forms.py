"""Which form of a network files have, by the runtime that they are to be fast in: as it was measured."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional

from ..models import ClassificationNet
from ..models.condensenet import CondenseNet
from ..models.shufflenetv1 import ShuffleNet
from .aligned.shufflenet import has_reactivations, is_second_version
from .description import Description
from .to_onnx.idle_blocks import LANES

__all__ = ["IN_8_BITS", "IN_MXNET", "ONNX_FORMS", "PORTABLE", "Form", "form_of"]

PORTABLE = "portable"


class Form(NamedTuple):
    """What differs between files for several runtimes. ONNX files of every form run everywhere, with equal answers.

    fast_in : the runtimes, in words.
    format : of `aligned`, where its graph is asked for.
    blocks : channels in the blocks of IdleBlocks, as in `write_onnx_file`.
    aligned : the families whose aligned graph was measured to be the faster one, each with its `format`.
    """

    fast_in: str
    format: str
    blocks: int
    aligned: Dict[str, str]

    def aligns(self, net: ClassificationNet) -> bool:
        """Whether the aligned graph of a network is written where nothing else is asked for."""
        return _family(net) in self.aligned

    def format_of(self, net: ClassificationNet) -> str:
        """The `format` of `aligned` for a network."""
        return self.aligned.get(_family(net), self.format)


def _family(net: ClassificationNet) -> str:
    """What `Form.aligned` calls a network; empty for what has no aligned graph, or is not condensed yet."""
    if isinstance(net, CondenseNet):
        return "condensenet" if net.condensed else ""
    if not isinstance(net, ShuffleNet) or has_reactivations(net):
        return ""
    return "shufflenet_v2" if is_second_version(net) else "shufflenet_v1"


# As `benchmark latency NAME ... --runtimes onnxruntime onnxruntime-aligned onnxruntime-portable openvino
# openvino-aligned openvino-portable` measured; docs/latency.md has the tables. Portable is what is within 3 % of the
# best for one image in both, or else what loses the least where it loses most.
ONNX_FORMS: Dict[str, Form] = {
    PORTABLE: Form(
        "ONNX Runtime and OpenVINO", "onnx", LANES, {"condensenet": "openvino", "shufflenet_v2": "openvino"}
    ),
    "onnxruntime": Form("ONNX Runtime", "onnx", LANES, {"condensenet": "onnx", "shufflenet_v2": "onnx"}),
    "openvino": Form("OpenVINO", "openvino", 0, {"condensenet": "openvino", "shufflenet_v2": "openvino"}),
}
IN_8_BITS = Form("ONNX Runtime", "onnx", LANES, {"condensenet": "onnx"})
IN_MXNET = Form("MXNet", "mxnet", 0, {"condensenet": "mxnet"})


def form_of(about: Description) -> Optional[str]:
    """Return which form an ONNX file has, in words; None of other files."""
    if about.runtime is None:
        return None
    aligned = "aligned" if about.aligned else "the network's own graph"
    blocks = f", IdleBlocks in whole blocks of {about.blocks} channels" if about.blocks else ""
    return f"{about.runtime}, for {ONNX_FORMS[about.runtime].fast_in}: {aligned}{blocks}"
